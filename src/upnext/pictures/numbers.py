"""Numbers as people read them: few digits, units, and the time in UTC."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeGuard

DASH = "–"
"""Where a number is missing."""
MINUS = "−"
FIRST_DATE_MS, END_OF_DATES_MS = -62_135_596_800_000, 253_402_300_800_000


def is_number(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)


def short(value: float | None, *, num_digits: int = 3) -> str:
    """A number in few digits; thousands are grouped.

    >>> [short(value) for value in (None, 0, 0.012345, 12.345, 1234.5, 1234567, -3.5)]
    ['–', '0', '0.0123', '12.3', '1,234', '1,234,567', '−3.5']
    """
    if not is_number(value):
        return DASH
    if value < 0:
        return MINUS + short(-value, num_digits=num_digits)
    if value >= 10 ** (num_digits - 1) or float(value).is_integer():
        return f"{value:,.0f}" if value < 1e15 else f"{value:.{num_digits}g}"
    return f"{value:.{num_digits}g}" if value >= 1e-4 or value == 0 else f"{value:.1e}"


def signed(value: float | None) -> str:
    """A difference, with its sign.

    >>> signed(0.0123), signed(-2), signed(0)
    ('+0.0123', '−2', '0')
    """
    return f"+{short(value)}" if is_number(value) and value > 0 else short(value)


def percent(share: float | None) -> str:
    """A share as percent.

    >>> [percent(share) for share in (None, 0, 0.00042, 0.0521, 0.5, 1)]
    ['–', '0%', '0.042%', '5.21%', '50%', '100%']
    """
    return f"{short(100 * share)}%" if is_number(share) else DASH


Tell = Callable[[float | None], str]
"""How a number is written."""


def interval(
    value: float | None, low: float | None, high: float | None, *, tell: Tell = short
) -> str:
    """A number and its 95% interval.

    >>> interval(0.4712, 0.46, 0.482), interval(12, None, None), interval(None, 1, 2)
    ('0.471 [0.46, 0.482]', '12', '–')
    """
    if not (is_number(value) and is_number(low) and is_number(high)):
        return tell(value)
    return f"{tell(value)} [{tell(low)}, {tell(high)}]"


def milliseconds(ms: float | None) -> str:
    """A short time.

    >>> [milliseconds(ms) for ms in (None, 0.2, 8.64, 125, 2500)]
    ['–', '0.2 ms', '8.64 ms', '125 ms', '2.5 s']
    """
    if not is_number(ms):
        return DASH
    return f"{short(ms)} ms" if ms < 1000 else f"{short(ms / 1000)} s"


def seconds(s: float | None) -> str:
    """A time to watch, in the unit that fits.

    >>> [seconds(s) for s in (None, 4.25, 83.2, 5400, 200_000)]
    ['–', '4.25 s', '83.2 s', '1.5 h', '2.31 d']
    """
    if not is_number(s):
        return DASH
    for bound, unit, size in ((120, "s", 1), (5_400, "min", 60), (172_800, "h", 3_600)):
        if abs(s) < bound:
            return f"{short(s / size)} {unit}"
    return f"{short(s / 86_400)} d"


def size(num_bytes: float | None) -> str:
    """An amount of memory.

    >>> [size(num_bytes) for num_bytes in (None, 512, 4096, 3_500_000)]
    ['–', '512 B', '4 KiB', '3.34 MiB']
    """
    if num_bytes is None:
        return DASH
    told = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if told < 1024 or unit == "GiB":
            break
        told /= 1024
    return f"{short(told)} {unit}"


def has_date(ms: float | None) -> TypeGuard[float]:
    """Whether the calendar has this moment, milliseconds since 1970: years 1 to 9999 it has."""
    return is_number(ms) and FIRST_DATE_MS <= ms < END_OF_DATES_MS


def when(ms: float | None) -> str:
    """A moment, in UTC.

    >>> when(1_767_571_215_081), when(None)
    ('2026-01-05 00:00:15', '–')
    """
    return f"{_utc(ms):%Y-%m-%d %H:%M:%S}" if has_date(ms) else DASH


def minute(ms: float | None) -> str:
    """The minute of a moment, in UTC.

    >>> minute(1_767_571_215_081)
    '2026-01-05 00:00'
    """
    return f"{_utc(ms):%Y-%m-%d %H:%M}" if has_date(ms) else DASH


def day(ms: float | None) -> str:
    """A day, in UTC.

    >>> day(1_767_571_215_081)
    '2026-01-05'
    """
    return f"{_utc(ms):%Y-%m-%d}" if has_date(ms) else DASH


def ago(ms: float | None, now_ms: float) -> str:
    """How long before now a moment was.

    >>> ago(1_000_000, 1_090_000), ago(1_090_000, 1_000_000), ago(None, 0)
    ('90 s ago', 'in 90 s', '–')
    """
    if ms is None:
        return DASH
    return (
        f"{seconds((now_ms - ms) / 1000)} ago"
        if ms <= now_ms
        else f"in {seconds((ms - now_ms) / 1000)}"
    )


def _utc(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
