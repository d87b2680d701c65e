"""Ticks are round, within bounds and ascending, and a scale keeps the order of values."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from upnext.pictures.scales import Kind, Scale, scale_over
from upnext.schema import MS_PER_DAY

VALUES = st.floats(-1e12, 1e12)
POSITIVE = st.floats(1e-9, 1e12)
MOMENTS_MS = st.integers(-(10**13), 10**13)


def digits(value: float) -> int:
    """
    >>> digits(0.25), digits(3000.0), digits(0.0)
    (2, 1, 0)
    """
    return len(
        f"{Decimal(repr(value)).normalize():e}".partition("e")[0].strip("-0.").replace(".", "")
    )


@given(low=VALUES, high=VALUES, num_wanted=st.integers(1, 8))
@example(low=0.0, high=0.3, num_wanted=3)
@example(low=-1.0, high=1.0, num_wanted=5)
def test_linear_ticks(low: float, high: float, num_wanted: int) -> None:
    assume(high - low > 1e-6 * max(abs(low), abs(high)))
    ticks = Scale("linear", low, high, 0, 1).ticks(num_wanted)
    values = [value for value, _ in ticks]
    assert all(low <= value <= high for value in values)
    assert all(a < b for a, b in pairwise(values))
    assert len(ticks) <= num_wanted + 1
    steps = [b - a for a, b in pairwise(values)]
    for step in steps:
        leading = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(leading - round_) for round_ in (1, 2, 2.5, 5, 10)) < 1e-3
    assert len({text for _, text in ticks}) == len(ticks) or max(map(abs, values)) >= 1e7


@given(low=POSITIVE, high=POSITIVE, num_wanted=st.integers(1, 8))
def test_logarithmic_ticks(low: float, high: float, num_wanted: int) -> None:
    assume(high > low * 1.001)
    values = [value for value, _ in Scale("log", low, high, 0, 1).ticks(num_wanted)]
    assert all(low <= value <= high for value in values)
    assert all(a < b for a, b in pairwise(values))
    if high / low >= 4:
        assert all(digits(float(f"{value:.6g}")) == 1 for value in values)


@given(low=MOMENTS_MS, span_ms=st.integers(1000, 10**13), num_wanted=st.integers(1, 8))
def test_ticks_of_time_are_round_in_utc(low: int, span_ms: int, num_wanted: int) -> None:
    scale = Scale("time", low, low + span_ms, 0, 1)
    ticks = scale.ticks(num_wanted)
    assert all(low <= ms <= low + span_ms for ms, _ in ticks)
    assert all(a < b for (a, _), (b, _) in pairwise(ticks))
    assert len(ticks) <= 2 * num_wanted + 2
    for ms, text in ticks:
        moment = datetime.fromtimestamp(ms / 1000, UTC)
        assert moment.microsecond == 0
        if span_ms / num_wanted > MS_PER_DAY:
            assert (moment.hour, moment.minute, moment.second) == (0, 0, 0)
        if span_ms / num_wanted > 31 * MS_PER_DAY:
            assert moment.day == 1
            assert f"{moment.year}" in text


def test_midnight_is_told_as_a_day() -> None:
    texts = [text for _, text in Scale("time", 0, 1.4 * MS_PER_DAY, 0, 1).ticks(6)]
    assert texts == ["Jan 01", "06:00", "12:00", "18:00", "Jan 02", "06:00"]


@given(
    values=st.lists(st.floats(-1e12, 1e12), max_size=6),
    kind=st.sampled_from(["linear", "log", "time"]),
)
@example(values=[0.0], kind="log")
@example(values=[], kind="time")
@example(values=[5.0, 5.0], kind="linear")
def test_a_scale_holds_its_values_in_order(values: list[float], kind: Kind) -> None:
    scale = scale_over(values, kind, 10, 110)
    held = sorted(value for value in values if scale.holds(value))
    places = [scale(value) for value in held]
    assert scale.low < scale.high
    assert all(10 <= place <= 110 for place in places)
    assert places == sorted(places)
    assert scale(-1e300) == pytest.approx(10)
    assert scale(1e300) == pytest.approx(110)
