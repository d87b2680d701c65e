"""The learning rate as a pure function of how much of the training lies behind."""

import math
from dataclasses import dataclass
from typing import Literal

from upnext.errors import ConfigError

ScheduleName = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True, kw_only=True)
class LearningRate:
    """Rises in a straight line to `peak` in the first `warmup_share` of all steps, then:

    linear:    peak · (1 − r)
    cosine:    peak · (1 + cos πr) / 2
    constant:  peak

    where r, from 0 to 1, is the share of the steps after the warm-up that lies behind. Nothing but
    the share counts, so training that was cut short goes on as if it had not been.

    >>> rate = LearningRate(peak=0.01, schedule="linear", warmup_share=0.2)
    >>> [round(rate.at(share), 4) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.005, 0.01, 0.005, 0.0]
    """

    peak: float
    schedule: ScheduleName = "linear"
    warmup_share: float = 0.0

    def at(self, trained_share: float) -> float:
        """The rate of a step before which `trained_share`, from 0 to 1, of all planned ones lie."""
        if trained_share < self.warmup_share:
            return self.peak * trained_share / self.warmup_share
        behind = (trained_share - self.warmup_share) / (1.0 - self.warmup_share)
        match self.schedule:
            case "linear":
                return self.peak * (1.0 - behind)
            case "cosine":
                return self.peak * (1.0 + math.cos(math.pi * behind)) / 2.0
            case "constant":
                return self.peak


def check_warmup(section: str, warmup_share: float) -> None:
    """Refuses a share outside [0, 1). Raises: ConfigError: names the section.

    >>> check_warmup("ranking", 1.0)
    Traceback (most recent call last):
    upnext.errors.ConfigError: [ranking] warmup_share: expected a share below 1, got 1.0.
    """
    if not 0.0 <= warmup_share < 1.0:
        expected = "0 or more" if warmup_share < 0.0 else "a share below 1"
        raise ConfigError(f"[{section}] warmup_share", expected=expected, got=str(warmup_share))
