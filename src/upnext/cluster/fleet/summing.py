"""The numbers of all servers become those of the one endpoint, and never fall.

What a server had counted when it was last asked stays counted when it ends, as that of a process
does; so Prometheus and the console see one server that goes on.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from upnext.serving.metrics import GAUGES

Series = tuple[str, str, tuple[tuple[str, str], ...]]
"""Family, name, labels."""


Values = dict[Series, float]


class Summed(Collector):
    """What all servers have told; any thread may call anything."""

    def __init__(self) -> None:
        self._living: dict[str, Values] = {}
        self._ended: dict[str, Values] = {}
        self._families: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def take(self, server: str, text: str) -> None:
        """What a server tells now, in the form that Prometheus reads."""
        families, values = _read(text)
        with self._lock:
            self._families.update(families)
            self._living[server] = values
            self._ended.pop(server, None)  # it was slow, and not gone

    def end(self, server: str) -> None:
        """A server is gone; what it counted stays, what was so at the moment does not."""
        with self._lock:
            values = self._living.pop(server, None)
            if values is not None:
                self._ended[server] = {
                    series: value
                    for series, value in values.items()
                    if self._families[series[0]][1] != "gauge"
                }

    def collect(self) -> Iterator[Metric]:
        """All families, those of all servers together."""
        together: dict[str, Values] = defaultdict(dict)
        with self._lock:
            for values in (*self._ended.values(), *self._living.values()):
                for series, value in values.items():
                    family = together[series[0]]
                    family[series] = _joined(GAUGES.get(series[0]), family.get(series), value)
        for name, family in together.items():
            metric = Metric(name, *self._families[name])
            for (_, sample, labels), value in family.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _read(text: str) -> tuple[dict[str, tuple[str, str]], Values]:
    families: dict[str, tuple[str, str]] = {}
    values: Values = {}
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created"):  # the sum of moments means nothing
            continue
        families[family.name] = (family.documentation, family.type)
        for sample in family.samples:
            values[family.name, sample.name, tuple(sample.labels.items())] = sample.value
    return families, values


def _joined(how: str | None, there: float | None, value: float) -> float:
    if there is None or how == "livemostrecent":
        return value
    return max(there, value) if how == "livemax" else there + value
