"""From values to places on paper, and the round values that stand beside an axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from upnext.pictures.numbers import short

Kind = Literal["linear", "log", "time"]

_STEPS_S = (1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400)
_STEPS_DAYS = (1, 2, 5, 7, 14, 28, 91, 182, 364, 1_820)
MS_PER_DAY = 86_400_000


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, end]; on a logarithmic scale both bounds are above 0.

    >>> Scale("linear", 0, 10, 100, 200)(2.5), Scale("log", 1, 100, 0, 10)(10)
    (125.0, 5.0)
    """

    kind: Kind
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value; values beyond the bounds are drawn at them."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.kind == "log":
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, num_wanted: int = 5) -> list[tuple[float, str]]:
        """About so many round values within the bounds, and how they are written."""
        match self.kind:
            case "linear":
                return _linear_ticks(self.low, self.high, num_wanted)
            case "log":
                return _log_ticks(self.low, self.high, num_wanted)
            case "time":
                return _time_ticks(self.low, self.high, num_wanted)


def scale_over(
    values: Sequence[float],
    kind: Kind,
    start: float,
    end: float,
    *,
    low: float | None = None,
    high: float | None = None,
    margin: float = 0.04,
) -> Scale:
    """A scale that holds all values, with a little room; `low` and `high` are kept where given."""
    usable = [value for value in values if kind != "log" or value > 0]
    least, most = min(usable, default=0.0 if kind != "log" else 1.0), max(usable, default=1.0)
    if kind == "log":
        room = (most / least) ** margin if most > least else 2.0
        return Scale(kind, low or least / room, high or most * room, start, end)
    room = (most - least) * margin or abs(most) * margin or 1.0
    if kind == "time":
        room = 0.0 if most > least else 1.0
    return Scale(
        kind,
        least - room if low is None else low,
        most + room if high is None else high,
        start,
        end,
    )


def _linear_ticks(low: float, high: float, num_wanted: int) -> list[tuple[float, str]]:
    span = high - low
    if not span > 0:
        return [(low, short(low))]
    raw = span / num_wanted
    size = 10 ** math.floor(math.log10(raw))
    step = size * next(part for part in (1, 2, 2.5, 5, 10) if part * size >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # As many digits as the step has, so that labels of one axis are alike.
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    places += not float(step * 10**places).is_integer()
    return [(k * step, _fixed(k * step, places)) for k in range(first, last + 1)]


def _fixed(value: float, places: int) -> str:
    return f"{value:,.{places}f}".replace("-", "−") if abs(value) < 1e15 else short(value)


def _log_ticks(low: float, high: float, num_wanted: int) -> list[tuple[float, str]]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = high / low > 10**num_wanted
    parts: Sequence[int] = (1,) if wide or high / low > 1e3 else (1, 2, 5)
    every = max(1, len(decades) // num_wanted) if wide else 1
    values = [part * 10.0**decade for decade in decades[::every] for part in parts]
    return [(value, short(value)) for value in values if low <= value <= high]


def _time_ticks(low_ms: float, high_ms: float, num_wanted: int) -> list[tuple[float, str]]:
    span_s = (high_ms - low_ms) / 1000 / num_wanted
    steps_s = [*_STEPS_S, *(days * 86_400 for days in _STEPS_DAYS[1:])]
    step_ms = 1000 * next((step for step in steps_s if step >= span_s), steps_s[-1])
    first = math.ceil(low_ms / step_ms)
    form = "%b %d" if step_ms >= MS_PER_DAY else "%H:%M" if step_ms >= 60_000 else "%H:%M:%S"
    return [
        (k * step_ms, f"{datetime.fromtimestamp(k * step_ms / 1000, UTC):{form}}")
        for k in range(first, math.floor(high_ms / step_ms) + 1)
    ]
