"""The last hour of a server's counters, kept while it is watched.

Counters only tell sums since a server began. They are read every few seconds, so that any window
within the hour is the difference of two readings.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from upnext.console.client import Server, ServerDownError, ServerRefusedError
from upnext.console.counters import Reading, Samples, Window
from upnext.errors import UpnextError

EVERY_S = 5.0
FINE_S = 330.0
"""So long every reading is kept, and later one in `COARSE_S`: an hour of all is much to hold."""
COARSE_S = 60.0
KEPT_S = 3_600.0


@dataclass
class Watch:
    """The last hour of a server's counters, and whether it answers now.

    `problem`: why the last reading failed; None if it did not.
    """

    server: Server
    clock: Callable[[], float] = time.time
    ready: Mapping[str, object] = field(default_factory=dict)
    problem: UpnextError | None = None
    _fine: deque[Reading] = field(default_factory=deque)
    _coarse: deque[Reading] = field(default_factory=deque)
    _told: Reading | None = None
    _base: Samples = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read_first(self) -> None:
        """One reading if there is none yet; it waits for one that is on its way."""
        async with self._turn:
            if self.latest is None:
                await self._read()

    async def read(self) -> None:
        """One reading more, or why there is none."""
        async with self._turn:
            await self._read()

    async def _read(self) -> None:
        try:
            self.ready = await self.server.ready()
            told = Reading.of(await self.server.metrics(), self.clock())
        except (ServerDownError, ServerRefusedError) as error:
            self.problem = error
            return
        self.problem = None
        if self._told is not None and told.began_anew_since(self._told):
            self._base = self._fine[-1].counters
        self._told = told
        self._keep(told.on_top_of(self._base) if self._base else told)

    def _keep(self, reading: Reading) -> None:
        self._fine.append(reading)
        while reading.at_s - self._fine[0].at_s > FINE_S:
            old = self._fine.popleft()
            if not self._coarse or old.at_s - self._coarse[-1].at_s >= COARSE_S - EVERY_S / 2:
                self._coarse.append(old)
        while self._coarse and reading.at_s - self._coarse[0].at_s > KEPT_S + EVERY_S:
            self._coarse.popleft()

    def window(self, last_s: float) -> Window | None:
        """The last seconds, as far as readings reach back; None before there are two."""
        reach = self._reach(last_s)
        if len(reach) > 1:
            return Window(reach[0], reach[-1])
        return Window(*list(self._fine)[-2:]) if len(self._fine) > 1 else None

    def windows(self, last_s: float, num_wanted: int) -> Sequence[Window]:
        """The last seconds cut into about so many windows, each of at least one reading."""
        ends: list[Reading] = []
        for reading in reversed(self._reach(last_s)):
            if not ends or ends[-1].at_s - reading.at_s >= last_s / num_wanted - EVERY_S / 2:
                ends.append(reading)
        return [Window(first, last) for first, last in pairwise(reversed(ends))]

    def _reach(self, last_s: float) -> list[Reading]:
        """Readings of the last seconds; one that is early by less than half a turn counts."""
        all_ = [*self._coarse, *self._fine]
        return [one for one in all_ if all_[-1].at_s - one.at_s <= last_s + EVERY_S / 2]

    @property
    def latest(self) -> Reading | None:
        """The last reading."""
        return self._fine[-1] if self._fine else None

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Reads on and on while the block runs."""
        task = asyncio.create_task(self._keep_reading())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep_reading(self) -> None:
        while True:
            await self.read()
            # A server that is back shall be seen soon.
            await asyncio.sleep(EVERY_S if self.problem is None else 1.0)
