"""What is made when it is first asked for, and kept as long as the release is."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Once(Generic[T]):
    """Calling it gives what `make` makes; whoever comes while it is made waits for it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: tuple[T] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> T:
        """Always the same object. Raises what `make` raises, which is then tried anew."""
        with self._lock:
            if self._made is None:
                self._made = (self._make(),)
            return self._made[0]


class Kept(Generic[K, T]):
    """The last `limit` answers by what was asked; used from several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answers: OrderedDict[K, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, asked: K) -> T | None:
        """The answer, or None where it is not kept."""
        with self._lock:
            if asked in self._answers:
                self._answers.move_to_end(asked)
            return self._answers.get(asked)

    def keep(self, asked: K, answer: T) -> None:
        """In place of the one that was not asked for the longest, if there are too many."""
        with self._lock:
            self._answers[asked] = answer
            self._answers.move_to_end(asked)
            if len(self._answers) > self._limit:
                self._answers.popitem(last=False)
