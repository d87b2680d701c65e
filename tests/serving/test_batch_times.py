"""What a batch is expected to take follows what the last ones took, whatever their sizes were."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.serving.batch_times import BatchTimes

SIZES = st.lists(st.integers(1, 16), min_size=1, max_size=60)
SECONDS = st.floats(1e-4, 1.0)


def begun() -> BatchTimes:
    """Such as have their first batch behind them."""
    times = BatchTimes()
    times.see(3, 30.0)
    return times


def seen(sizes: list[int], fixed_s: float, each_s: float) -> BatchTimes:
    times = begun()
    for size in sizes:
        times.see(size, fixed_s + size * each_s)
    return times


def test_nothing_is_expected_of_what_was_never_seen() -> None:
    assert BatchTimes().expected_s(8) == 0


def test_the_very_first_batch_tells_nothing_of_those_after_it() -> None:
    times = begun()
    assert times.expected_s(3) == 0
    times.see(3, 0.006)
    assert times.expected_s(3) == pytest.approx(0.006)


@given(sizes=SIZES, fixed_s=SECONDS, each_s=SECONDS, asked=st.integers(1, 16))
def test_where_times_are_a_line_it_is_found(
    sizes: list[int], fixed_s: float, each_s: float, asked: int
) -> None:
    # The last two tell the line, however long ago others than those were seen.
    times = seen([*sizes, 1, 9], fixed_s, each_s)
    assert times.expected_s(asked) == pytest.approx(fixed_s + asked * each_s, rel=1e-6)


@given(size=st.integers(1, 16), took_s=SECONDS, count=st.integers(1, 50), asked=st.integers(0, 40))
def test_of_one_size_alone_each_thing_is_expected_to_take_its_part(
    size: int, took_s: float, count: int, asked: int
) -> None:
    times = begun()
    for _ in range(count):
        times.see(size, took_s)
    assert times.expected_s(asked) == pytest.approx(asked * took_s / size)


@given(batches=st.lists(st.tuples(st.integers(1, 16), SECONDS), min_size=1, max_size=80))
def test_more_never_take_less_nor_longer_than_one_by_one(batches: list[tuple[int, float]]) -> None:
    times = begun()
    for size, took_s in batches:
        times.see(size, took_s)
    expected_s = [times.expected_s(size) for size in range(17)]
    assert expected_s[0] == 0
    assert expected_s == sorted(expected_s)
    each_s = [expected_s[size] / size for size in range(1, 17)]
    assert all(more <= less * (1 + 1e-9) for less, more in itertools.pairwise(each_s))


@given(sizes=SIZES, slower=st.floats(0.1, 10))
def test_what_was_seen_long_ago_is_forgotten(sizes: list[int], slower: float) -> None:
    times = seen(sizes, 0.01, 0.01)
    for _ in range(300):
        times.see(4, 0.05 * slower)
    assert times.expected_s(4) == pytest.approx(0.05 * slower, rel=1e-3)
