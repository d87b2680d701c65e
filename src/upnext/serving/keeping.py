"""What is looked at again and again while a server runs: shares of traffic, and what is told."""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from upnext.errors import UpnextError
from upnext.serving.answering import Answering
from upnext.serving.metrics import Metrics
from upnext.serving.traffic import read_traffic, traffic_path

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.1
TELL_EVERY_S = 1.0


class LosesPages(Protocol):
    """A store that counts what it could not keep."""

    @property
    def num_lost_pages(self) -> int:
        """Served pages that were lost."""


class Keeping:
    """A thread that looks ten times a second, while this `with` block runs.

    `tell`: called once a second, to tell other processes what is new.
    """

    def __init__(
        self,
        registry: Path,
        answering: Answering,
        metrics: Metrics,
        store: LosesPages | None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._registry, self._answering = registry, answering
        self._metrics, self._store, self._tell = metrics, store, tell
        self._tell_at_s = time.monotonic()
        self._seen: tuple[int, int] | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="keep", daemon=True)

    def __enter__(self) -> None:
        self._look()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _keep_looking(self) -> None:
        while not self._ends.wait(LOOK_EVERY_S):
            try:
                self._look()
            except Exception:  # numbers that are not told are no reason to end
                logger.exception("the server could not look after itself")

    def _look(self) -> None:
        self._follow_traffic()
        state = self._answering.live.state
        self._metrics.waiting(self._answering.queue.num_waiting)
        self._metrics.releases({one.version: one.state for one in state.held}, state.labels)
        if self._store is not None:
            self._metrics.pages_lost(self._store.num_lost_pages)
        if (now_s := time.monotonic()) >= self._tell_at_s:
            self._tell_at_s = now_s + TELL_EVERY_S
            self._tell()

    def _follow_traffic(self) -> None:
        """Shares that cannot be read leave those that were read before."""
        try:
            status = os.stat(traffic_path(self._registry))
            seen = (status.st_ino, status.st_mtime_ns)
        except FileNotFoundError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._answering.traffic = read_traffic(self._registry)
        except UpnextError:
            logger.exception("traffic stays as it was")
