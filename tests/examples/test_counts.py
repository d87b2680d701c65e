"""What everybody did, hour by hour, against a count of the events themselves."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upnext.examples.counts
from upnext.examples.counts import HourlyCounts
from upnext.schema import Floats

NUM_ROWS = 6
NUM_HOURS = 6
HOUR_MS = 3_600_000

Watch = tuple[int, int, float, float]
"""Row, time, seconds watched, share watched."""
Shown = tuple[int, int]
"""Row, time."""

rows = st.integers(0, NUM_ROWS - 1)
times = st.one_of(
    st.integers(0, NUM_HOURS * HOUR_MS),
    st.builds(lambda hour, ms: max(0, hour * HOUR_MS + ms), st.integers(0, 6), st.integers(-2, 2)),
)
"""Many of them about the turn of an hour."""
seconds = st.integers(0, 8 * 7_200).map(lambda eighths: eighths / 8)
"""Up to two hours, whole milliseconds, and sums that are exact."""
shares = st.integers(0, 8).map(lambda eighths: eighths / 8)
few = settings(max_examples=50)
watches = st.lists(st.tuples(rows, times, seconds, shares), max_size=25)
impressions = st.lists(st.tuples(rows, times), max_size=25)


def counted(watched: list[Watch], shown: list[Shown]) -> HourlyCounts:
    return HourlyCounts.of(
        watched_rows=np.array([row for row, *_ in watched], np.int32),
        started_at_ms=np.array([at_ms for _, at_ms, *_ in watched], np.int64),
        watch_time_s=np.array([spent for *_, spent, _ in watched], np.float32),
        watch_share=np.array([share for *_, share in watched], np.float32),
        shown_rows=np.array([row for row, _ in shown], np.int32),
        shown_at_ms=np.array([at_ms for _, at_ms in shown], np.int64),
    )


def told(counts: HourlyCounts, at_ms: int, num_rows: int = NUM_ROWS) -> Floats:
    """[N, 4] of every row at one moment."""
    every = np.arange(num_rows, dtype=np.int32)
    return counts.before(every, np.full(num_rows, at_ms, np.int64))


def end_ms(watch: Watch) -> int:
    return watch[1] + round(1_000 * watch[2])


def by_hand(watched: list[Watch], shown: list[Shown], row: int, at_ms: int) -> list[float]:
    """Impressions, watches, seconds, shares: what was over before the hour of at_ms began."""
    began_ms = at_ms - at_ms % HOUR_MS
    over = [watch for watch in watched if watch[0] == row >= 2 and end_ms(watch) < began_ms]
    num_shown = sum(1 for it, shown_ms in shown if it == row >= 2 and shown_ms < began_ms)
    seconds, shares = (sum(watch[column] for watch in over) for column in (2, 3))
    return [num_shown, len(over), seconds, shares]


@few
@given(watches, impressions, times)
def test_what_was_over_before_the_hour_began_is_told_and_nothing_else(
    watched: list[Watch], shown: list[Shown], at_ms: int
) -> None:
    found = told(counted(watched, shown), at_ms)
    assert found.dtype == np.float32
    assert found.tolist() == [by_hand(watched, shown, row, at_ms) for row in range(NUM_ROWS)]


@few
@given(watches, impressions, times)
def test_what_happens_at_t_or_later_or_still_runs_moves_no_bit(
    watched: list[Watch], shown: list[Shown], at_ms: int
) -> None:
    over = [watch for watch in watched if end_ms(watch) < at_ms]
    earlier = [event for event in shown if event[1] < at_ms]
    silent = told(counted(over, earlier), at_ms)
    assert told(counted(watched, shown), at_ms).tobytes() == silent.tobytes()


@few
@given(watches, impressions, st.randoms(use_true_random=False))
def test_the_order_of_events_moves_no_bit(
    watched: list[Watch], shown: list[Shown], by_chance: random.Random
) -> None:
    """Nor of odd numbers of seconds and shares, whose sums would depend on it."""
    odd = [(row, at_ms, spent / 7 + 1e-3, share / 3) for row, at_ms, spent, share in watched]
    counts = counted(odd, shown)
    by_chance.shuffle(odd)
    by_chance.shuffle(shown)
    shuffled = counted(odd, shown)
    assert shuffled.keys.tolist() == counts.keys.tolist()
    assert shuffled.sums.tobytes() == counts.sums.tobytes()


@few
@given(watches, impressions, st.integers(1, 9))
def test_counting_a_few_events_at_once_moves_no_bit(
    watched: list[Watch], shown: list[Shown], num_at_once: int
) -> None:
    whole = counted(watched, shown)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnext.examples.counts, "EVENTS_AT_ONCE", num_at_once)
        in_pieces = counted(watched, shown)
    assert in_pieces.keys.tolist() == whole.keys.tolist()
    assert in_pieces.sums.tobytes() == whole.sums.tobytes()


@few
@given(watches, impressions, times)
def test_all_moments_of_an_hour_are_told_the_same(
    watched: list[Watch], shown: list[Shown], at_ms: int
) -> None:
    counts = counted(watched, shown)
    first_ms = at_ms - at_ms % HOUR_MS
    for moment in (first_ms, first_ms + HOUR_MS - 1):
        assert told(counts, moment).tobytes() == told(counts, at_ms).tobytes()


@few
@given(watches, impressions, st.lists(st.tuples(rows, times), min_size=1, max_size=20))
def test_many_rows_and_moments_at_once_are_told_what_each_is_alone(
    watched: list[Watch], shown: list[Shown], asked: list[tuple[int, int]]
) -> None:
    counts = counted(watched, shown)
    of_rows = np.array([row for row, _ in asked], np.int32)
    together = counts.before(of_rows, np.array([at_ms for _, at_ms in asked], np.int64))
    alone = [told(counts, at_ms)[row].tolist() for row, at_ms in asked]
    assert together.tolist() == alone


def test_pads_unknown_items_and_rows_never_counted_are_told_nothing() -> None:
    watched = [(row, 0, 1.0, 1.0) for row in range(3)]
    counts = counted(watched, [(row, 0) for row in range(3)])
    assert told(counts, HOUR_MS, num_rows=9).tolist() == [[0] * 4] * 2 + [[1] * 4] + [[0] * 4] * 6


def test_a_watch_begun_hours_ago_is_told_after_the_hour_that_it_ends_in() -> None:
    three_hours = counted([(2, HOUR_MS // 2, 3 * 3_600.0, 1.0)], [])
    by_hour = [told(three_hours, hour * HOUR_MS)[2, 1] for hour in range(7)]
    assert by_hour == [0, 0, 0, 0, 1, 1, 1]


def test_a_moment_before_1970_is_a_moment() -> None:
    early = counted([(3, -2 * HOUR_MS, 1.0, 1.0)], [(3, -2 * HOUR_MS)])
    assert told(early, -HOUR_MS)[:, 0].tolist() == [0, 0, 0, 1, 0, 0]
    assert not told(early, -2 * HOUR_MS).any()
    assert told(early, HOUR_MS)[3].tolist() == [1.0] * 4


@pytest.mark.parametrize(("column", "unit"), [(2, 1e-3), (3, 1e-6)])
def test_seconds_and_shares_are_whole_units_of_which_none_is_missing(
    column: int, unit: float
) -> None:
    """Never below what was watched, and by less than a unit a watch above."""
    spent = np.random.default_rng(3).uniform(0, 1, 200).astype(np.float32)
    counts = counted([(2, 0, float(one), float(one)) for one in spent], [])
    found = told(counts, 2 * HOUR_MS)[2, column]
    truth, rounding = spent.sum(dtype=np.float64), 1e-5
    assert truth - rounding <= found < truth + 200 * unit + rounding
    assert found == np.float32(round(float(found) / unit) * unit)


@pytest.mark.parametrize("is_counted", [True, False])
def test_nothing_counted_is_nothing_told(is_counted: bool) -> None:
    counts = counted([], []) if is_counted else HourlyCounts.empty()
    assert told(counts, 5 * HOUR_MS).tolist() == [[0.0] * 4] * NUM_ROWS
    assert counts.before(np.zeros(0, np.int32), np.zeros(0, np.int64)).shape == (0, 4)
    assert counts.sums.dtype == HourlyCounts.empty().sums.dtype
    assert counts.sums.shape == (0, 4)


def hour_of(at_ms: int) -> int:
    return at_ms // HOUR_MS


@few
@given(watches, impressions)
def test_what_a_row_was_told_hour_by_hour_adds_up(watched: list[Watch], shown: list[Shown]) -> None:
    counts = counted(watched, shown)
    for row in range(NUM_ROWS):
        hours, added = counts.of_row(row)
        own = [watch for watch in watched if watch[0] == row >= 2]
        own_shown = [hour_of(at_ms) for it, at_ms in shown if it == row >= 2]
        assert hours.tolist() == sorted({*own_shown, *(hour_of(end_ms(one)) for one in own)})
        for hour, line in zip(hours.tolist(), added.tolist(), strict=True):
            ended = [watch for watch in own if hour_of(end_ms(watch)) == hour]
            sums = [sum(watch[column] for watch in ended) for column in (2, 3)]
            assert line == [own_shown.count(hour), len(ended), *sums]


@few
@given(watches, impressions, st.integers(1, 9))
def test_watches_of_all_rows_are_counted_by_the_hour_they_ended_in(
    watched: list[Watch], shown: list[Shown], num_at_once: int
) -> None:
    counts = counted(watched, shown)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnext.examples.counts, "EVENTS_AT_ONCE", num_at_once)
        first_hour, ended = counts.watches_by_hour()
    hours = [hour_of(end_ms(watch)) for watch in watched if watch[0] >= 2]
    every = [*hours, *(hour_of(at_ms) for row, at_ms in shown if row >= 2)]
    assert len(ended) == (max(every) - min(every) + 1 if every else 0)
    assert first_hour == min(every, default=0)
    expected = [hours.count(first_hour + place) for place in range(len(ended))]
    assert ended.tolist() == expected
