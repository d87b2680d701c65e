"""What happens, in numbers that Prometheus reads; several processes are counted together.

Where `PROMETHEUS_MULTIPROC_DIR` names a directory, each process writes its numbers there, and
whichever is asked adds them up; the one that starts the processes makes it.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upnext.schema import Recommendations

SECONDS = tuple(float(f"{0.0005 * 20_000 ** (place / 39):.3g}") for place in range(40))
"""Bounds of the times that are counted together, from 0.5 ms to 10 s, each 1.29 of the one before:
so fine that a quantile read off them is within 12% of the true one."""
SHARES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.999, 1.0)
"""Bounds of recalls, finer where a good index is."""
Together = Literal["livesum", "livemax", "livemostrecent"]
GAUGES: Mapping[str, Together] = {
    "upnext_waiting": "livesum",
    "upnext_pages_lost": "livesum",
    "upnext_release_state": "livemax",
    "upnext_label_release": "livemostrecent",
}
"""How the gauges of several processes, or of several servers, become one."""
CAUSES: Mapping[str, str] = {
    "user_vector failed": "user_vector",
    "candidates failed": "candidates",
    "index failed": "index",
    "sources failed": "sources",
    "ranking failed": "ranking",
    "ranking would have come too late": "ranking_late",
    "not answered in time": "late",
    "answering failed": "failed",
    "the live store": "store",
}
"""How causes of a degraded answer begin, and what they are counted as."""


class Metrics:
    """All that is counted. One object a process, as its names may be registered once."""

    def __init__(self) -> None:
        self._own = CollectorRegistry()
        about = ["release", "label"]
        # Each page is counted ten times; to look up what it counts as takes as long as to count.
        self._answers = cache(self._counter("answers", "Pages answered.", *about).labels)
        self._stages = cache(
            Histogram(
                "upnext_stage_seconds",
                "Time of each stage of the requests that were answered together.",
                ["stage", *about],
                buckets=SECONDS,
                registry=self._own,
            ).labels
        )
        self._degraded = self._counter(
            "degraded", "Answers that are less than they could be, by cause.", "cause", *about
        )
        self._responses = cache(
            self._counter("responses", "HTTP responses.", "route", "status").labels
        )
        self._events = self._counter("events", "Events taken, by outcome.", "outcome")
        self._pages_not_kept = self._counter("pages_not_kept", "Served pages that no log may hold.")
        self._shadow = Histogram(
            "upnext_shadow_overlap",
            "Share of a page that the shadow's page has too.",
            ["label"],
            buckets=tuple(part / 10 for part in range(11)),
            registry=self._own,
        )
        self._recall = Histogram(
            "upnext_index_recall",
            "Share of what an exact search finds that the index finds, of some live requests.",
            ["release"],
            buckets=SHARES,
            registry=self._own,
        )
        self._waited = Histogram(
            "upnext_queue_waited_seconds",
            "How long requests waited for the thread that took them.",
            buckets=SECONDS,
            registry=self._own,
        )
        self._refused = self._counter(
            "refused", "Pages that were refused as too much waited, those of a batch too."
        )
        self._waiting = self._gauge("waiting", "Requests that no thread has taken yet.")
        self._pages_lost = self._gauge("pages_lost", "Served pages that could not be logged.")
        self._releases = self._gauge(
            "release_state",
            "1 for the state that each release is in, 0 for those that it was in before.",
            "release",
            "state",
        )
        self._states = set[tuple[str, str]]()
        self._labels = self._gauge(
            "label_release", "The release that each label points at.", "label"
        )

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"upnext_{name}", what, labels, registry=self._own)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        full = f"upnext_{name}"
        return Gauge(full, what, labels, registry=self._own, multiprocess_mode=GAUGES[full])

    def answered(self, answer: Recommendations, label: str | None) -> None:
        """A page was answered."""
        release, told = answer.release, label or ""
        self._answers(release, told).inc()
        for stage, ms in answer.timings_ms.items():
            self._stages(stage, release, told).observe(ms / 1e3)
        for cause in causes_of(answer.degraded):
            self._degraded.labels(cause, release, told).inc()

    def counting(self, app: ASGIApp) -> ASGIApp:
        """The application, its responses counted by the name of what handled the request."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            async def tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route = getattr(scope.get("endpoint"), "__name__", "none")
                    self.responded(route, message["status"])
                await send(message)

            await app(scope, receive, tell if scope["type"] == "http" else send)

        return counted

    def responded(self, route: str, status: int) -> None:
        """A response began, of whatever handles this route."""
        self._responses(route, str(status)).inc()

    def waited(self, waited_s: float) -> None:
        """A thread took a request that had waited so long."""
        self._waited.observe(waited_s)

    def refused(self) -> None:
        """A page was not let in."""
        self._refused.inc()

    def compared_index(self, release: str, recall: float) -> None:
        """The index of a release was compared with an exact search."""
        self._recall.labels(release).observe(recall)

    def waiting(self, num_waiting: int) -> None:
        """So many requests wait now."""
        self._waiting.set(num_waiting)

    def took_events(self, *, num_accepted: int, num_duplicates: int) -> None:
        """Events were made durable, or were so already."""
        self._events.labels("accepted").inc(num_accepted)
        self._events.labels("duplicate").inc(num_duplicates)

    def pages_lost(self, num_lost: int) -> None:
        """So many pages could not be logged since the start."""
        self._pages_lost.set(num_lost)

    def page_not_kept(self) -> None:
        """A page cannot be logged, whatever the store does."""
        self._pages_not_kept.inc()

    def releases(self, states: Mapping[int, str], labels: Mapping[str, int]) -> None:
        """What is loaded and labelled now."""
        there = {(str(version), state) for version, state in states.items()}
        for gone in self._states - there:  # 0, as files of several processes keep what they had
            self._releases.labels(*gone).set(0)
        for version_state in there:
            self._releases.labels(*version_state).set(1)
        self._states |= there
        for label, version in labels.items():
            self._labels.labels(label).set(version)

    def shadowed(self, label: str, shown: Sequence[object], shadow: Sequence[object]) -> None:
        """A shadow answered beside a page."""
        overlap = len(set(shown) & set(shadow)) / max(1, len(shown))
        self._shadow.labels(label).observe(overlap)

    def to_text(self) -> bytes:
        """All of it, of all processes, as Prometheus reads it."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._own)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def causes_of(degraded: Sequence[str]) -> list[str]:
    """What the causes of an answer are counted as; wishes that could not be met are none.

    >>> causes_of(["ranking failed (RuntimeError): …", "rules leave 3 items for 10 slots"])
    ['ranking']
    """
    return [
        name for cause in degraded for begins, name in CAUSES.items() if cause.startswith(begins)
    ]
