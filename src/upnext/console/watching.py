"""What a server's counters did lately: rates, shares and quantiles, each over a window.

Counters only tell sums since a server began. The console reads them every few seconds and keeps the
last hour, so that any window within it is the difference of two readings.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

from upnext.console.client import Server, ServerDownError, ServerRefusedError
from upnext.errors import UpnextError

EVERY_S = 5.0
KEPT_S = 3_600.0

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Reading:
    """All counters at one moment, in seconds since the epoch: name → labels → value."""

    at_s: float
    values: Mapping[str, Mapping[Labels, float]]

    @classmethod
    def of(cls, text: str, at_s: float) -> "Reading":
        """Reads what Prometheus would."""
        values: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith("upnext_") and not sample.name.endswith("_created"):
                    kept = values.setdefault(sample.name, {})
                    kept[frozenset(sample.labels.items())] = sample.value
        return cls(at_s, values)


@dataclass(frozen=True)
class Window:
    """What was counted between two readings."""

    first: Reading
    last: Reading

    @property
    def length_s(self) -> float:
        """Seconds between them."""
        return self.last.at_s - self.first.at_s

    def increase(self, name: str, **where: str) -> float:
        """How much a counter grew, over all its labels that are as asked."""
        return sum(self._increases(name, where).values())

    def by(self, label: str, name: str, **where: str) -> dict[str, float]:
        """The same by the values of one label, those that grew."""
        told: dict[str, float] = {}
        for labels, grew in self._increases(name, where).items():
            value = dict(labels).get(label, "")
            told[value] = told.get(value, 0.0) + grew
        return {value: grew for value, grew in sorted(told.items()) if grew > 0}

    def per_s(self, name: str, **where: str) -> float | None:
        """Its growth a second; None in an empty window."""
        return self.increase(name, **where) / self.length_s if self.length_s > 0 else None

    def quantile(self, share: float, histogram: str, **where: str) -> float | None:
        """The value below which that share of observations lies, between the bounds of its bucket.

        None where nothing was observed. Beyond the last bound it is that bound.
        """
        buckets = [
            (float(bound), grew)
            for bound, grew in self._buckets(f"{histogram}_bucket", where).items()
        ]
        buckets.sort()
        total = buckets[-1][1] if buckets else 0.0
        if total <= 0:
            return None
        wanted, low, below = share * total, 0.0, 0.0
        for bound, up_to in buckets:
            if up_to >= wanted and up_to > below:
                if math.isinf(bound):
                    return low
                # Bounds grow by a factor, so that between them logarithms are even.
                part = (wanted - below) / (up_to - below)
                return bound * part if low == 0 else low * (bound / low) ** part
            low, below = bound, up_to
        return low

    def _buckets(self, name: str, where: Mapping[str, str]) -> dict[str, float]:
        told: dict[str, float] = {}
        for labels, grew in self._increases(name, where).items():
            bound = dict(labels)["le"]
            told[bound] = told.get(bound, 0.0) + grew
        return told

    def _increases(self, name: str, where: Mapping[str, str]) -> dict[Labels, float]:
        wanted, before = set(where.items()), self.first.values.get(name, {})
        told = {}
        for labels, value in self.last.values.get(name, {}).items():
            if wanted <= labels:
                grew = value - before.get(labels, 0.0)
                told[labels] = grew if grew >= 0 else value  # the server began anew
        return told


@dataclass
class Watch:
    """The last hour of a server's counters, and whether it answers now.

    `problem`: why the last reading failed; None if it did not.
    """

    server: Server
    clock: Callable[[], float] = time.time
    ready: Mapping[str, object] = field(default_factory=dict)
    problem: UpnextError | None = None
    _readings: deque[Reading] = field(default_factory=deque)

    async def read(self) -> None:
        """One reading more, or why there is none."""
        try:
            self.ready = await self.server.ready()
            reading = Reading.of(await self.server.metrics(), self.clock())
        except (ServerDownError, ServerRefusedError) as error:
            self.problem = error
            return
        self.problem = None
        self._readings.append(reading)
        while reading.at_s - self._readings[0].at_s > KEPT_S:
            self._readings.popleft()

    def window(self, last_s: float) -> Window | None:
        """The last seconds, as far as readings reach back; None before there are two."""
        if len(self._readings) < 2:
            return None
        last = self._readings[-1]
        reach = [one for one in self._readings if last.at_s - one.at_s <= last_s + EVERY_S / 2]
        return Window(reach[0] if len(reach) > 1 else self._readings[-2], last)

    def windows(self, last_s: float, num_wanted: int) -> Sequence[Window]:
        """The last seconds cut into about so many windows, each of at least one reading."""
        last = self._readings[-1].at_s if self._readings else 0.0
        reach = [one for one in self._readings if last - one.at_s <= last_s]
        every = max(1, math.ceil((len(reach) - 1) / num_wanted))
        ends = reach[::-1][::every][::-1]
        return [Window(a, b) for a, b in pairwise(ends)]

    @property
    def latest(self) -> Reading | None:
        """The last reading."""
        return self._readings[-1] if self._readings else None

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
