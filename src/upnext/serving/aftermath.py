"""What is done once a page is answered: it is counted, judged, and kept for tomorrow's training."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from upnext.events.event import ServedItem, ServedPage
from upnext.schema import Id, Recommendations
from upnext.serving.asked import Answered, Asked
from upnext.serving.gate import Gate, Seen
from upnext.serving.metrics import Metrics, causes_of

logger = logging.getLogger(__name__)

TakeBack = Callable[[str, int, str], None]
"""Takes a label back from a version, for a reason."""


class Pages(Protocol):
    """Where served pages are kept."""

    def log_pages(self, pages: Sequence[ServedPage]) -> None:
        """Queues some; never waits and never raises."""


class Slow(Protocol):
    """Where the slowest requests are remembered."""

    def see(self, asked: Asked, answered: Answered) -> None:
        """One more answer; takes no time."""


class Aftermath:
    """Each part may be left out. Nothing here makes anybody wait, or fails an answer."""

    def __init__(
        self,
        *,
        metrics: Metrics | None = None,
        pages: Pages | None = None,
        gate: Gate | None = None,
        take_back: TakeBack | None = None,
        slow: Slow | None = None,
    ) -> None:
        self._metrics, self._pages, self._slow = metrics, pages, slow
        self._gate, self._take_back = gate, take_back
        self._taken_back: set[tuple[str, int]] = set()

    def of(self, asked: Asked, answered: Answered) -> None:
        """Of an answer that somebody is given."""
        if self._metrics is not None:
            self._metrics.answered(answered.recommendations, answered.label)
        if self._slow is not None:
            self._slow.see(asked, answered)
        if self._gate is not None and answered.label is not None:
            self._judge(self._gate, answered.label, answered)
        if self._pages is not None and asked.is_logged:
            self._keep(self._pages, asked, answered)

    def of_shadow(self, label: str, shown: Recommendations, unseen: Recommendations) -> None:
        """Of an answer that nobody is given, beside the one that was."""
        if self._metrics is not None:
            self._metrics.answered(unseen, f"shadow of {label}")
            ids = [[item.item_id for item in one.items] for one in (shown, unseen)]
            self._metrics.shadowed(label, *ids)

    def of_comparison(self, release: str, recall: float) -> None:
        """Of an index that was compared with an exact search."""
        if self._metrics is not None:
            self._metrics.compared_index(release, recall)

    def of_waiting(self, waited_s: float) -> None:
        """Of a request that waited so long for its turn."""
        if self._metrics is not None:
            self._metrics.waited(waited_s)

    def of_refusal(self) -> None:
        """Of a request that was not let in."""
        if self._metrics is not None:
            self._metrics.refused()

    def _keep(self, pages: Pages, asked: Asked, answered: Answered) -> None:
        user_id = asked.request.user_id
        if user_id is None or not answered.recommendations.items:
            return  # what nobody was shown is no impression
        at_ms = asked.request.at_ms
        served_at_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
        try:
            pages.log_pages([_page(user_id, served_at_ms, answered)])
        except ValueError as error:  # such as an id with a character that no log may hold
            logger.warning("the page of request %s is not kept: %s", answered.request_id, error)
            if self._metrics is not None:
                self._metrics.page_not_kept()

    def _judge(self, gate: Gate, label: str, answered: Answered) -> None:
        answer, version = answered.recommendations, answered.version
        took_ms = answer.timings_ms.get("total", 0.0)
        is_less = any(cause != "store" for cause in causes_of(answer.degraded))
        gate.see(label, Seen(version=version, took_ms=took_ms, is_less=is_less))
        reason = gate.verdict(label)
        if reason is None or self._take_back is None or (label, version) in self._taken_back:
            return
        self._taken_back.add((label, version))
        logger.error("label %s is taken back from release %d: %s", label, version, reason)
        threading.Thread(target=self._take_back, args=(label, version, reason)).start()


def _page(user_id: Id, served_at_ms: int, answered: Answered) -> ServedPage:
    """Raises ValueError: it is none that could become a log."""
    return ServedPage(
        request_id=answered.request_id,
        user_id=user_id,
        served_at_ms=served_at_ms,
        release=answered.recommendations.release,
        label=answered.label or "",
        items=[
            ServedItem(
                item_id=item.item_id,
                source=item.sources[0] if item.sources else None,
                propensity=item.propensity,
            )
            for item in answered.recommendations.items
        ],
    )
