"""A server's counters, read now and again: what came in between, and how it was spread."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Samples = Mapping[str, Mapping[Labels, float]]
"""Name → labels → value."""

UNSEEN = "shadow of "
"""How the label of answers begins that nobody was shown."""


@dataclass(frozen=True, eq=False)
class Reading:
    """All numbers at one moment, in seconds since the epoch.

    `counters` hold sums that only grow while a server lives, such as those of histograms, and
    `gauges` what is so now.
    """

    at_s: float
    counters: Samples
    gauges: Samples

    @classmethod
    def of(cls, text: str, at_s: float) -> "Reading":
        """Reads what Prometheus would."""
        kinds: dict[str, dict[str, dict[Labels, float]]] = {"counters": {}, "gauges": {}}
        for family in text_string_to_metric_families(text):
            kept = kinds["gauges" if family.type == "gauge" else "counters"]
            for sample in family.samples:
                if sample.name.startswith("upnext_") and not sample.name.endswith("_created"):
                    labels = _labels(*sample.labels.items())
                    kept.setdefault(sample.name, {})[labels] = sample.value
        return cls(at_s, **kinds)

    def gauge(self, name: str, **where: str) -> float | None:
        """The sum over all labels that are as asked; None where the server tells nothing."""
        wanted = set(where.items())
        told = [v for labels, v in self.gauges.get(name, {}).items() if wanted <= labels]
        return sum(told) if told else None

    def began_anew_since(self, before: "Reading") -> bool:
        """Whether the server counts from 0 again: something fell, or is not there any more."""
        return any(
            self.counters.get(name, {}).get(labels, -1.0) < value
            for name, samples in before.counters.items()
            if not name.endswith("_sum")  # processes' sums are added in any order, and rounded
            for labels, value in samples.items()
        )

    def on_top_of(self, base: Samples) -> "Reading":
        """The same, with what had been counted before the server began."""
        counters = {name: dict(samples) for name, samples in base.items()}
        for name, samples in self.counters.items():
            kept = counters.setdefault(name, {})
            for labels, value in samples.items():
                kept[labels] = kept.get(labels, 0.0) + value
        return Reading(self.at_s, counters, self.gauges)


@lru_cache(maxsize=20_000)
def _labels(*items: tuple[str, str]) -> Labels:
    """One object for all readings, since most of their memory would be labels."""
    return frozenset(items)


@dataclass(frozen=True, eq=False)
class Observed:
    """What a histogram saw. `buckets`: upper bound, and how many up to it; the last is infinite."""

    total: float
    buckets: Sequence[tuple[float, float]]

    @property
    def num(self) -> float:
        """How many observations there are."""
        return self.buckets[-1][1] if self.buckets else 0.0

    @property
    def mean(self) -> float | None:
        """Their mean; None where there are none."""
        return self.total / self.num if self.num > 0 else None

    def quantile(self, share: float) -> float | None:
        """The value below which that share of observations lies, between the bounds of its bucket.

        None where nothing was observed. Beyond the last bound it is that bound.
        """
        if self.num <= 0:
            return None
        wanted, low, below = share * self.num, 0.0, 0.0
        for bound, up_to in self.buckets:
            if up_to >= wanted and up_to > below:
                if math.isinf(bound):
                    return low
                # Bounds grow by a factor, so that between them logarithms are even.
                part = (wanted - below) / (up_to - below)
                return bound * part if low == 0 else low * (bound / low) ** part
            low, below = bound, up_to
        return low


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
        return {value: grew for (value,), grew in self.by_all((label,), name, **where).items()}

    def by_all(
        self, labels: Sequence[str], name: str, **where: str
    ) -> dict[tuple[str, ...], float]:
        """The same by the values of several labels together."""
        told: dict[tuple[str, ...], float] = {}
        for these, grew in self._increases(name, where).items():
            of = dict(these)
            values = tuple(of.get(label, "") for label in labels)
            told[values] = told.get(values, 0.0) + grew
        return {values: grew for values, grew in sorted(told.items()) if grew > 0}

    def shown(self, name: str, **where: str) -> float:
        """As `increase`, without answers that nobody was shown: those of a shadow."""
        grew = self.by("label", name, **where)
        return sum(num for label, num in grew.items() if not label.startswith(UNSEEN))

    def per_s(self, name: str, **where: str) -> float | None:
        """Its growth a second; None in an empty window."""
        return self.increase(name, **where) / self.length_s if self.length_s > 0 else None

    def observed(self, histogram: str, **where: str) -> Observed:
        """What a histogram saw, over all its labels that are as asked."""
        up_to: dict[float, float] = {}
        for labels, grew in self._increases(f"{histogram}_bucket", where).items():
            bound = float(dict(labels)["le"])
            up_to[bound] = up_to.get(bound, 0.0) + grew
        return Observed(self.increase(f"{histogram}_sum", **where), sorted(up_to.items()))

    def quantile(self, share: float, histogram: str, **where: str) -> float | None:
        """One quantile of what a histogram saw."""
        return self.observed(histogram, **where).quantile(share)

    def _increases(self, name: str, where: Mapping[str, str]) -> dict[Labels, float]:
        wanted, before = set(where.items()), self.first.counters.get(name, {})
        return {
            labels: value - before.get(labels, 0.0)
            for labels, value in self.last.counters.get(name, {}).items()
            if wanted <= labels
        }
