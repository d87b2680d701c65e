"""The k best of what is proposed, against sorting everything in plain Python."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.best import RowSets, best_first

NUM_REQUESTS, NUM_ROWS = 3, 7
SCORES = [-np.inf, -3.0, -0.25, -1e-30, -0.0, 0.0, 1e-30, 0.25, 0.5, 3.0, np.inf]

proposals = st.lists(
    st.dictionaries(st.integers(-1, NUM_ROWS - 1), st.sampled_from(SCORES)),
    min_size=NUM_REQUESTS,
    max_size=NUM_REQUESTS,
)
exclusions = st.lists(
    st.lists(st.integers(-1, NUM_ROWS - 1)), min_size=NUM_REQUESTS, max_size=NUM_REQUESTS
)


@given(proposals, st.none() | exclusions, st.integers(0, 8), st.sampled_from([-np.inf, 0.0, 0.25]))
def test_the_best_come_first_each_request_by_itself(
    proposed: list[dict[int, float]], excluded: list[list[int]] | None, k: int, above: float
) -> None:
    left_out = excluded or [[] for _ in proposed]
    rows, scores = best_first(
        np.cumsum([0, *map(len, proposed)]),
        np.array([row for lines in proposed for row in lines], np.int32),
        np.array([score for lines in proposed for score in lines.values()], np.float32),
        k,
        excluded_rows=None if excluded is None else [np.array(one, np.int32) for one in excluded],
        above=above,
    )
    assert rows.dtype == np.int32
    assert scores.dtype == np.float32
    for request, lines in enumerate(proposed):
        standing = sorted(
            (-np.float32(score), row)
            for row, score in lines.items()
            if score > above and row >= 2 and row not in left_out[request]
        )[:k]
        padding = k - len(standing)
        assert rows[request].tolist() == [row for _, row in standing] + [-1] * padding
        wanted = [float(-score) for score, _ in standing] + [-np.inf] * padding
        assert scores[request].tolist() == wanted


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2))
def test_scores_of_any_size_come_back_as_they_were(values: list[float]) -> None:
    rows = np.arange(2, 2 + len(values), dtype=np.int32)
    told = np.array(values, np.float32)
    starts = np.array([0, len(values)])
    found, scores = best_first(starts, rows, told, len(values), above=-np.inf)
    assert scores[0].tolist() == sorted(values, reverse=True)
    is_there = found[0] >= 0
    assert told[found[0, is_there] - 2].tolist() == scores[0, is_there].tolist()


def test_what_is_not_a_number_is_no_proposal() -> None:
    rows, told = np.array([2, 3], np.int32), np.array([np.nan, 1.0], np.float32)
    found, _ = best_first(np.array([0, 2]), rows, told, 2)
    assert found.tolist() == [[3, -1]]


@pytest.mark.parametrize("num_rows", [0, 1, 300])
def test_the_first_rows_are_left_out_in_whatever_order_they_are_told(num_rows: int) -> None:
    rows = np.arange(2, 1002, dtype=np.int32)
    scores = np.arange(1000, 0, -1, dtype=np.float32)
    excluded = np.random.default_rng(0).permutation(np.arange(2, 2 + num_rows))
    found, _ = best_first(np.array([0, 1000]), rows, scores, 5, excluded_rows=[excluded])
    assert found[0].tolist() == list(range(2 + num_rows, 7 + num_rows))


def test_nobody_who_asks_is_an_ordinary_batch() -> None:
    nothing = np.zeros(0, np.int32)
    found, scores = best_first(np.array([0]), nothing, np.zeros(0, np.float32), 3)
    assert found.shape == scores.shape == (0, 3)


@given(exclusions, st.lists(st.integers(0, NUM_REQUESTS - 1)), st.data())
def test_sets_hold_each_row_once_and_are_a_sequence_like_any_other(
    lists: list[list[int]], places: list[int], data: st.DataObject
) -> None:
    sets = RowSets.of([np.array(rows, np.int32) for rows in lists], NUM_REQUESTS)
    wanted = [sorted(set(rows)) for rows in lists]
    assert [rows.tolist() for rows in sets] == wanted
    assert sets.sizes.tolist() == [len(rows) for rows in wanted]
    assert sets[-1].tolist() == wanted[-1]
    taken = sets.take(np.array(places, np.int64))
    assert [rows.tolist() for rows in taken] == [wanted[place] for place in places]
    first = data.draw(st.integers(0, NUM_REQUESTS))
    some = sets[first : data.draw(st.integers(first, NUM_REQUESTS))]
    assert [rows.tolist() for rows in some] == wanted[first : first + len(some)]
    assert RowSets.of(some, len(some)) is some


def test_no_lists_are_empty_sets() -> None:
    assert RowSets.of(None, 3).sizes.tolist() == [0, 0, 0]
    with pytest.raises(IndexError):
        RowSets.of(None, 3)[3]


@pytest.mark.parametrize("as_sets", [False, True])
def test_lists_of_other_requests_are_refused(as_sets: bool) -> None:
    rows = np.array([2, 3, 4], np.int32)
    excluded: Sequence[np.ndarray] = [rows[:1], rows[1:]]
    if as_sets:
        excluded = RowSets.of(excluded, 2)
    with pytest.raises(ValueError, match="each of 3, got 2"):
        best_first(np.arange(4), rows, np.ones(3, np.float32), 1, excluded_rows=excluded)
