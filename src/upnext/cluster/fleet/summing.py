"""The numbers of all servers become those of the one endpoint, and never fall.

What a server had counted when it was last asked stays counted when it ends, as that of a process
does; so Prometheus and the console see one server that goes on.
"""

from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from upnext.serving.metrics import GAUGES

Series = tuple[str, str, tuple[tuple[str, str], ...]]
"""Family, name, labels."""


class Summed:
    """What all servers have told, as a collector of `prometheus_client`."""

    def __init__(self) -> None:
        self._latest: dict[object, dict[Series, float]] = {}
        self._ended: dict[Series, float] = {}
        self._families: dict[str, tuple[str, str]] = {}

    def take(self, server: object, text: str) -> None:
        """What a server tells now, in the form that Prometheus reads."""
        values: dict[Series, float] = {}
        for family in text_string_to_metric_families(text):
            if family.name.endswith("_created"):  # the sum of moments means nothing
                continue
            self._families[family.name] = (family.documentation, family.type)
            for sample in family.samples:
                series = (family.name, sample.name, tuple(sample.labels.items()))
                values[series] = sample.value
        self._latest[server] = values

    def end(self, server: object) -> None:
        """A server is no more; what it counted stays, what was so at the moment does not."""
        for series, value in self._latest.pop(server, {}).items():
            if self._families[series[0]][1] != "gauge":
                self._ended[series] = self._ended.get(series, 0.0) + value

    def collect(self) -> Iterator[Metric]:
        """All families, those of all servers together."""
        together: dict[str, dict[Series, float]] = defaultdict(dict)
        for values in (self._ended, *self._latest.values()):
            for series, value in values.items():
                family = together[series[0]]
                family[series] = _joined(GAUGES.get(series[0]), family.get(series), value)
        for name, family in together.items():
            metric = Metric(name, *self._families[name])
            for (_, sample, labels), value in family.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _joined(how: str | None, there: float | None, value: float) -> float:
    if there is None or how == "livemostrecent":
        return value
    return max(there, value) if how == "livemax" else there + value
