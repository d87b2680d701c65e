"""How long something takes at worst, as of lately: a pause of the machine is soon forgotten."""

from dataclasses import dataclass

LEFT_AFTER_EACH = 0.95
"""What is left of the longest time after each newer one."""
HALF_LIFE_S = 1.0
"""Seconds after which half of it is left. Where few ask, nothing else would make it fade soon."""


@dataclass(frozen=True, slots=True)
class Lately:
    """The longest time that was told, fading with newer ones and with the clock.

    >>> paused = Lately().told(8.0, at_s=100.0)
    >>> paused.longest_s(at_s=100.0), paused.longest_s(at_s=105.0)
    (8.0, 0.25)
    """

    last_longest_s: float = 0.0
    told_at_s: float = 0.0

    def longest_s(self, *, at_s: float) -> float:
        """How long it may take now; `at_s` is a time of the clock that `told` was given."""
        return float(self.last_longest_s * 0.5 ** ((at_s - self.told_at_s) / HALF_LIFE_S))

    def told(self, took_s: float, *, at_s: float) -> "Lately":
        """After it has taken so long."""
        return Lately(max(LEFT_AFTER_EACH * self.longest_s(at_s=at_s), took_s), at_s)
