"""Fresh uploads: the window, what is left of it, and how gladly items were watched when shown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.schema import MS_PER_DAY, Floats, TimesMs
from upnext.sources import FreshUploads, Shown, fresh_uploads

HOUR_MS = 3_600_000
NUM_ROWS = 9
FRESH_DAYS = 0.5

few = settings(max_examples=100)
hours = st.integers(-5, 40)
published = st.lists(hours, min_size=NUM_ROWS, max_size=NUM_ROWS)
impressions = st.lists(st.tuples(st.integers(0, NUM_ROWS - 1), hours, st.booleans()), max_size=30)
Impression = tuple[int, int, bool]


def shown_as(lines: list[Impression]) -> Shown:
    rows, at_hours, watched = np.array(lines, np.int64).reshape(-1, 3).T
    return Shown(rows.astype(np.int32), at_hours * HOUR_MS, watched.astype(np.bool_))


def in_ms(some_hours: list[int]) -> TimesMs:
    return np.array(some_hours, np.int64) * HOUR_MS


def lift(lines: list[Impression], row: int, shrinkage: float) -> float:
    """As the docstring tells it; unknown items count for nothing."""
    known = [(item, watched) for item, _, watched in lines if item >= 2]
    num_watched = sum(watched for _, watched in known)
    if not num_watched:
        return 1.0
    own = [watched for item, watched in known if item == row]
    return (sum(own) * len(known) / num_watched + shrinkage) / (len(own) + shrinkage)


def all_scores(fresh: FreshUploads, at_ms: TimesMs) -> Floats:
    requests, rows = np.indices((len(at_ms), NUM_ROWS)).reshape(2, -1)[:, ::-1]
    scores = np.empty((len(at_ms), NUM_ROWS), np.float32)
    scores[requests, rows] = fresh.scores(at_ms, rows, requests)
    return scores


@few
@given(published, impressions, hours, st.sampled_from([0.5, 10.0]))
def test_scores_are_what_the_formula_says(
    published_h: list[int], lines: list[Impression], at_h: int, shrinkage: float
) -> None:
    fresh = fresh_uploads(
        in_ms(published_h), fresh_days=FRESH_DAYS, shown=shown_as(lines), shrinkage=shrinkage
    )
    for row, score in enumerate(all_scores(fresh, in_ms([at_h]))[0]):
        age_h = at_h - published_h[row]
        is_fresh = row >= 2 and 0 < age_h < 24 * FRESH_DAYS
        left = 1 - age_h / (24 * FRESH_DAYS) if is_fresh else 0.0
        assert score == pytest.approx(lift(lines, row, shrinkage) * left, rel=1e-6)


@few
@given(published, impressions, st.lists(hours, min_size=1), st.integers(1, 12), st.data())
def test_candidates_are_the_best_of_all_without_what_is_excluded(
    published_h: list[int],
    lines: list[Impression],
    at_h: list[int],
    k: int,
    data: st.DataObject,
) -> None:
    fresh = fresh_uploads(in_ms(published_h), fresh_days=FRESH_DAYS, shown=shown_as(lines))
    some_rows = st.lists(st.integers(0, NUM_ROWS - 1), max_size=4)
    excluded = [np.array(data.draw(some_rows), np.int32) for _ in at_h]
    rows, scores = fresh.candidates(in_ms(at_h), k, excluded_rows=excluded)
    everything = all_scores(fresh, in_ms(at_h))
    for line, score, values, left_out in zip(rows, scores, everything, excluded, strict=True):
        values[left_out] = 0
        best = [row for row in np.argsort(-values, kind="stable") if values[row] > 0][:k]
        assert line.tolist() == best + [-1] * (k - len(best))
        assert score.tolist() == [*values[best].tolist(), *[-np.inf] * (k - len(best))]


def test_without_impressions_the_newest_of_the_window_come_first() -> None:
    at_ms = np.array([10, 0]) * MS_PER_DAY
    days = np.array([0, 0, 9.5, 7.0, 9.9, 10.0, 6.9, 12.0])
    fresh = fresh_uploads((days * MS_PER_DAY).astype(np.int64), fresh_days=3.0)
    rows, scores = fresh.candidates(at_ms, 4)
    assert rows.tolist() == [[4, 2, -1, -1], [-1] * 4]
    assert scores[0, :2].tolist() == pytest.approx([1 - 0.1 / 3, 1 - 0.5 / 3])


@few
@given(published, impressions, st.lists(st.tuples(st.integers(2, 8), hours, st.booleans())))
def test_impressions_at_the_time_or_later_change_nothing(
    published_h: list[int], lines: list[Impression], others: list[Impression]
) -> None:
    until_h = 20
    before = [line for line in lines if line[1] < until_h]
    later = [(row, until_h + abs(at_h), watched) for row, at_h, watched in others]
    first, second = (
        fresh_uploads(
            in_ms(published_h),
            fresh_days=FRESH_DAYS,
            shown=shown_as(some),
            until_ms=until_h * HOUR_MS,
        )
        for some in (before, before + later)
    )
    assert first.lifts.tolist() == second.lifts.tolist()


@few
@given(published, st.lists(hours, max_size=4), impressions, hours)
def test_items_that_are_added_are_new_and_known_ones_stay(
    published_h: list[int], added_h: list[int], lines: list[Impression], at_h: int
) -> None:
    fresh = fresh_uploads(in_ms(published_h), fresh_days=FRESH_DAYS, shown=shown_as(lines))
    grown = fresh.with_items(in_ms(published_h + added_h))
    at_ms, everything = in_ms([at_h]), np.arange(NUM_ROWS + len(added_h))
    before = fresh.scores(at_ms, everything, np.zeros_like(everything))
    after = grown.scores(at_ms, everything, np.zeros_like(everything))
    assert before[:NUM_ROWS].tolist() == after[:NUM_ROWS].tolist()
    assert not before[NUM_ROWS:].any()
    never_shown = fresh_uploads(in_ms([0, 0, *added_h]), fresh_days=FRESH_DAYS)
    alone = never_shown.scores(at_ms, everything[2 : 2 + len(added_h)], np.zeros(len(added_h), int))
    assert after[NUM_ROWS:].tolist() == alone.tolist()
    rows, _ = grown.candidates(at_ms, len(everything))
    assert set(rows[rows >= 0]) == set(np.flatnonzero(after))


def test_an_empty_catalogue_has_nothing_fresh() -> None:
    fresh = fresh_uploads(np.zeros(2, np.int64), fresh_days=1.0, shown=shown_as([]))
    rows, scores = fresh.candidates(np.array([HOUR_MS]), 2)
    assert rows.tolist() == [[-1, -1]]
    assert np.isneginf(scores).all()
    asked = fresh.scores(np.array([HOUR_MS]), np.array([0, 1, 2, -1]), np.zeros(4, int))
    assert asked.tolist() == [0.0] * 4


@pytest.mark.parametrize("place", [0, 1])
def test_at_the_beginning_of_time_nothing_is_fresh_and_others_are_answered(place: int) -> None:
    fresh = fresh_uploads(in_ms([0, 0, *range(500)]), fresh_days=FRESH_DAYS)
    at_ms = in_ms([500, 500])
    alone, _ = fresh.candidates(at_ms[:1], 20)
    at_ms[place] = np.iinfo(np.int64).min + 1
    rows, scores = fresh.candidates(at_ms, 20)
    np.testing.assert_array_equal(rows[1 - place], alone[0])
    assert (rows[place] == -1).all()
    assert (scores[place] == -np.inf).all()
