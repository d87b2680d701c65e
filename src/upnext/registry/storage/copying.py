"""Many files at once, a few threads wide, and how far they have come."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

NUM_THREADS = 4
"""Files that are on their way at once; each takes two blocks of memory at most."""

Tell = Callable[[str], None]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A release that lies in both places now; `num_copied` files, `copied_bytes`, had to move."""

    version: int
    num_files: int
    size_bytes: int
    num_copied: int
    copied_bytes: int

    def to_text(self) -> str:
        """In a line."""
        what = f"release {self.version}: {self.num_files} files, {self.size_bytes / 1e6:,.1f} MB"
        if not self.num_copied:
            return f"{what}, all there already"
        return f"{what}, of which {self.num_copied} copied, {self.copied_bytes / 1e6:,.1f} MB"


class Progress:
    """How many bytes of all have moved; threads add to it, and end there once it has stopped."""

    def __init__(self, what: str, size_bytes: int, tell: Tell) -> None:
        self.what, self.size_bytes, self.tell = what, size_bytes, tell
        self.num_bytes = 0
        self._lock = threading.Lock()
        self._has_stopped = False

    def stop(self) -> None:
        """Nobody wants the rest."""
        self._has_stopped = True

    def add(self, num_bytes: int) -> None:
        """So many more have moved. Raises CancelledError: nobody wants the rest."""
        if self._has_stopped:
            raise CancelledError
        with self._lock:
            self.num_bytes += num_bytes
            done_mb, all_mb = self.num_bytes / 1e6, self.size_bytes / 1e6
            self.tell(f"{self.what}: {done_mb:,.1f} of {all_mb:,.1f} MB")


def in_threads(
    do: Callable[[T], R], things: Iterable[T], *, stop: Callable[[], None] = lambda: None
) -> list[R]:
    """What `do` makes of each, in their order; after the first error nothing more is begun.

    `stop` is called then, so that what is under way may end early too.

    Raises: whatever `do` raises.
    """
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        running = [threads.submit(do, thing) for thing in things]
        try:
            for done in as_completed(running):
                done.result()
        except BaseException:
            stop()
            threads.shutdown(cancel_futures=True)
            raise
    return [done.result() for done in running]
