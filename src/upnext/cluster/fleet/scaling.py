"""How many replicas there should be, by how much each of them has to do."""

import time
from collections.abc import Callable

from upnext.serving.config import FleetConfig

LESS_BELOW = 0.5
"""One replica less, if the others would still have less to do than this share of what is busy."""


def wanted_replicas(config: FleetConfig, num_ready: int, num_in_flight: float) -> int:
    """How many replicas to have next, of so many that are ready: one more, one less, or as many.

    Args:
        num_in_flight: requests under way in all of them, on average over the window.

    >>> config = FleetConfig(num_replicas=1, max_replicas=3, busy_above=4.0)
    >>> [wanted_replicas(config, 2, num_in_flight) for num_in_flight in (9.0, 8.0, 2.0, 1.9)]
    [3, 2, 2, 1]
    """
    if num_in_flight > config.busy_above * num_ready:
        return min(num_ready + 1, config.most)
    if num_in_flight < LESS_BELOW * config.busy_above * (num_ready - 1):
        return max(num_ready - 1, config.num_replicas)
    return num_ready


class Window:
    """The mean of a number that is looked at now and again, since the window began."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self.begin()

    def begin(self) -> None:
        """Forgets what was."""
        self._total, self._num_looks, self._began_s = 0.0, 0, self._now_s()

    def look(self, number: float) -> None:
        """It is so much now."""
        self._total += number
        self._num_looks += 1

    def mean_after(self, window_s: float) -> float | None:
        """The mean, once the window is so long; None before."""
        if self._num_looks == 0 or self._now_s() - self._began_s < window_s:
            return None
        return self._total / self._num_looks
