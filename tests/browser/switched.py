"""Something that listens on one port, and can be taken away and brought back there."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

Start = Callable[[int], AbstractContextManager[str]]
"""From a port, of which 0 takes a free one, to what listens there; its value is the address."""


class Switched:
    """On from the start; used in a `with` block. `url` stays what it is."""

    def __init__(self, start: Start) -> None:
        self._start, self._on, self.url = start, ExitStack(), ""

    def __enter__(self) -> Self:
        self.bring_back()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.take_away()

    def take_away(self) -> None:
        self._on.close()

    def bring_back(self) -> None:
        self.url = self._on.enter_context(self._start(urlsplit(self.url).port or 0))
