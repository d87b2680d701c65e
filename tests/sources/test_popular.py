"""Most watched, of everybody and by segment, against counts made in plain Python."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.schema import MS_PER_DAY
from upnext.sources import MostWatched, most_watched, most_watched_lately

NUM_ROWS, NUM_SEGMENTS = 8, 6

few = settings(max_examples=100)
segments = st.integers(0, NUM_SEGMENTS + 1)
watches = st.lists(st.tuples(st.integers(0, NUM_ROWS - 1), segments), max_size=40)
asked_segments = st.lists(segments, min_size=1, max_size=4)
shrinkages = st.sampled_from([0.0, 0.5, 20.0])

Watch = tuple[int, int]


def fitted(lines: list[Watch], shrinkage: float) -> MostWatched:
    rows, of_segments = np.array(lines, np.int32).reshape(-1, 2).T
    return most_watched(rows, of_segments, shrinkage=shrinkage)


def share(lines: list[Watch], segment: int, row: int, shrinkage: float) -> float:
    """share_s(i) as the docstring tells it; segments 0 and 1 and those without watches follow."""
    everybody = Counter(item for item, _ in lines if item >= 2)
    own = Counter(item for item, its_segment in lines if item >= 2 and its_segment == segment)
    general = everybody[row] / max(1, everybody.total()) if row >= 2 else 0.0
    if segment < 2 or not own:
        return general
    return (own[row] + shrinkage * general) / (own.total() + shrinkage)


@few
@given(watches, segments, shrinkages)
def test_shares_are_what_counting_gives(lines: list[Watch], segment: int, shrinkage: float) -> None:
    shares = fitted(lines, shrinkage).scores_of_all(NUM_ROWS, segment_row=segment)
    expected = [share(lines, segment, row, shrinkage) for row in range(NUM_ROWS)]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    if any(row >= 2 for row, _ in lines):
        assert shares.sum() == pytest.approx(1.0)


@few
@given(watches, asked_segments, shrinkages, st.integers(1, 10), st.data())
def test_candidates_are_the_largest_shares_without_what_is_excluded(
    lines: list[Watch], asked: list[int], shrinkage: float, k: int, data: st.DataObject
) -> None:
    popular = fitted(lines, shrinkage)
    some_rows = st.lists(st.integers(0, NUM_ROWS - 1), max_size=5)
    excluded = [np.array(data.draw(some_rows), np.int32) for _ in asked]
    rows, scores = popular.candidates(np.array(asked, np.int32), k, excluded_rows=excluded)
    for line, score, segment, left_out in zip(rows, scores, asked, excluded, strict=True):
        shares = popular.scores_of_all(NUM_ROWS, segment_row=segment)
        shares[left_out] = 0
        best = [row for row in np.argsort(-shares, kind="stable") if shares[row] > 0][:k]
        assert line.tolist() == best + [-1] * (k - len(best))
        wanted = [*shares[best].tolist(), *[-np.inf] * (k - len(best))]
        assert score.tolist() == wanted


@few
@given(watches, asked_segments, shrinkages)
def test_a_batch_scores_as_each_request_does_alone(
    lines: list[Watch], asked: list[int], shrinkage: float
) -> None:
    popular, segment_rows = fitted(lines, shrinkage), np.array(asked, np.int32)
    requests, rows = np.indices((len(asked), NUM_ROWS + 2)).reshape(2, -1)[:, ::-1]
    scores = popular.scores(segment_rows, rows - 1, requests)
    alone = [
        popular.scores(segment_rows[request : request + 1], np.array([row]), np.array([0]))[0]
        for request, row in zip(requests, rows - 1, strict=True)
    ]
    assert scores.tolist() == alone


def test_a_small_segment_follows_everybody_and_a_large_one_itself() -> None:
    lines = [(2, 0)] * 900 + [(3, 0)] * 100 + [(3, 2)] * 1 + [(3, 3)] * 10_000
    popular = fitted(lines, 100.0)
    everybody, small, large = (
        popular.scores_of_all(4, segment_row=segment) for segment in (0, 2, 3)
    )
    assert small == pytest.approx(everybody, abs=0.01)
    assert large[3] > 0.99
    assert large[2] == pytest.approx(100 / 10_100 * everybody[2])


def test_lately_forgets_and_does_not_foresee() -> None:
    rows = np.array([2, 3, 4], np.int32)
    at_ms = np.array([0, 9, 10]) * MS_PER_DAY
    lately = most_watched_lately(rows, at_ms, days=1.0, until_ms=10 * MS_PER_DAY)
    assert lately.scores_of_all(5).tolist() == [0, 0, 0, 1, 0]
    always = most_watched_lately(rows, at_ms, days=11.0)
    assert always.scores_of_all(5)[2:].tolist() == pytest.approx([1 / 3] * 3)


def test_no_watches_at_all_is_an_ordinary_log() -> None:
    none = np.zeros(0, np.int32)
    popular = most_watched_lately(none, none.astype(np.int64), none)
    rows, scores = popular.candidates(np.array([0, 5], np.int32), 2)
    assert rows.tolist() == [[-1, -1]] * 2
    assert np.isneginf(scores).all()
    assert popular.scores_of_all(4).tolist() == [0, 0, 0, 0]
