"""From values to places on paper, and the round values that stand beside an axis."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from upnext.pictures.numbers import END_OF_DATES_MS, FIRST_DATE_MS, short
from upnext.schema import MS_PER_DAY

Kind = Literal["linear", "log", "time"]
Ticks = list[tuple[float, str]]
"""Values and how they are written, in ascending order."""

NEXT_TO_NOTHING = 1e-100
"""Up to here a value has no place on a logarithmic scale, and a span no ticks."""
_STEPS_S = (1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200)
_STEPS_DAYS = (1, 2, 7, 14)
_STEPS_MONTHS = (1, 3, 6, 12, 60, 120, 600, 1_200)
_MS_PER_MONTH = 30.44 * MS_PER_DAY


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

    def holds(self, value: float) -> bool:
        """Whether the value has a place: on a logarithmic scale nothing up to 0 has one."""
        return math.isfinite(value) and (self.kind != "log" or value > NEXT_TO_NOTHING)

    def ticks(self, num_wanted: int = 5) -> Ticks:
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
    """A scale that holds all values, with a little room; `low` and `high` are kept where given.

    Without any value it goes from 0 to 1, or from 1 to 10 where it is logarithmic.
    """
    usable = [value for value in values if kind != "log" or value > NEXT_TO_NOTHING]
    least, most = (min(usable), max(usable)) if usable else (1.0, 10.0) if kind == "log" else (0, 1)
    if kind == "log":
        ratio = math.exp((math.log(most) - math.log(least)) * margin) if most > least else 2.0
        return Scale(kind, low or least / ratio, high or most * ratio, start, end)
    if kind == "time":
        room = 0.0 if most > least else MS_PER_DAY / 2
    else:
        room = (most - least) * margin or abs(most) * margin or 1.0
    return Scale(
        kind,
        least - room if low is None else low,
        most + room if high is None else high,
        start,
        end,
    )


def _linear_ticks(low: float, high: float, num_wanted: int) -> Ticks:
    span = high - low
    if not span > max(1e-12 * max(abs(low), abs(high)), NEXT_TO_NOTHING):
        return [(low, short(low))]
    raw = span / num_wanted
    size = 10.0 ** math.floor(math.log10(raw))
    step = size * next(part for part in (1, 2, 2.5, 5, 10) if part * size >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # As many digits as the step has, so that labels of one axis are alike.
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    places += not math.isclose(step * 10.0**places, round(step * 10.0**places))
    values = [round(k * step, places) for k in range(first, last + 1)]
    return [(value, _fixed(value, places)) for value in values if low <= value <= high]


def _fixed(value: float, places: int) -> str:
    if abs(value) >= 1e7 or places > 6:
        return f"{value:.3g}".replace("e+0", "e").replace("e+", "e").replace("-", "−")
    return f"{value:,.{places}f}".replace("-", "−")


def _log_ticks(low: float, high: float, num_wanted: int) -> Ticks:
    if high / low < 4:
        return [tick for tick in _linear_ticks(low, high, num_wanted) if tick[0] > 0]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    parts: Sequence[int] = (1,) if high / low > 1e3 else (1, 2, 5)
    every = max(1, -(-len(decades) // num_wanted)) if len(parts) == 1 else 1
    values = [part * 10.0**decade for decade in decades[::every] for part in parts]
    return [(value, short(value)) for value in values if low <= value <= high]


def _time_ticks(low_ms: float, high_ms: float, num_wanted: int) -> Ticks:
    low_ms, high_ms = max(low_ms, FIRST_DATE_MS), min(high_ms, END_OF_DATES_MS - 1)
    wanted_ms = (high_ms - low_ms) / num_wanted
    steps_ms = [s * 1000 for s in _STEPS_S] + [days * MS_PER_DAY for days in _STEPS_DAYS]
    step_ms = next((step for step in steps_ms if step >= wanted_ms), None)
    if step_ms is None:
        months = wanted_ms / _MS_PER_MONTH
        step = next((step for step in _STEPS_MONTHS if step >= months), _STEPS_MONTHS[-1])
        form = "%Y" if step >= 12 else "%b %Y"
        return [(ms, _date(ms, form)) for ms in _months(low_ms, high_ms, step)]
    form = "%b %d" if step_ms >= MS_PER_DAY else "%H:%M" if step_ms >= 60_000 else "%H:%M:%S"
    places = range(math.ceil(low_ms / step_ms), math.floor(high_ms / step_ms) + 1)
    return [
        (k * step_ms, _date(k * step_ms, form if k * step_ms % MS_PER_DAY else "%b %d"))
        for k in places
    ]


def _months(low_ms: float, high_ms: float, step: int) -> Iterator[float]:
    """The first days of every so many months."""
    start = datetime.fromtimestamp(low_ms / 1000, UTC)
    number = -(-(start.year * 12 + start.month - 1) // step) * step
    while number < 12 * 10_000:
        ms = datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000
        if ms > high_ms:
            return
        if ms >= low_ms:
            yield ms
        number += step


def _date(ms: float, form: str) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):{form}}"
