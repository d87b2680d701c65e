from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.examples.places import places_of
from upnext.schema import Rows

few_rows = st.one_of(st.integers(0, 5), st.integers(0, 2**31 - 1))
"""Some that meet often, and some as large as rows may be."""


def lists(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(few_rows, min_size=size, max_size=size)


def told_by_comparing(
    rows: Sequence[int], requests: Sequence[int], item_rows: Rows, request_index: NDArray[np.int64]
) -> list[int]:
    places = []
    for row, request in zip(rows, requests, strict=True):
        same = (item_rows == row) & (request_index == request) & (row > 1)
        places.append(int(same.argmax()) + 1 if same.any() else 0)
    return places


def assert_places_are_those_of_comparing(
    history_rows: Rows, shown_rows: Rows, item_rows: Rows, request_index: NDArray[np.int64]
) -> None:
    places = places_of(history_rows, shown_rows, item_rows, request_index)
    candidates = item_rows, request_index
    for rows, told in zip((history_rows, shown_rows), places, strict=False):
        requests = np.repeat(np.arange(len(rows)), rows.shape[1]).tolist()
        expected = told_by_comparing(rows.ravel().tolist(), requests, *candidates)
        assert (told.ravel().tolist(), told.shape) == (expected, rows.shape)
    own = told_by_comparing(item_rows.tolist(), request_index.tolist(), *candidates)
    assert places.item_place.tolist() == own
    assert {array.dtype for array in places} == {np.dtype(np.int64)}


@given(data=st.data())
def test_a_place_is_that_of_the_first_candidate_with_the_item(data: st.DataObject) -> None:
    num_requests = data.draw(st.integers(1, 3))
    history, shown = (
        np.array([data.draw(lists(size)) for _ in range(num_requests)], np.int32) for size in (4, 6)
    )
    requests = data.draw(st.lists(st.integers(0, num_requests - 1)))
    item_rows = np.array(data.draw(lists(len(requests))), np.int32)
    assert_places_are_those_of_comparing(history, shown, item_rows, np.array(requests, np.int64))


def test_many_requests_with_items_in_common_are_told_apart() -> None:
    """Also of rows that are alike in all of their lower bits."""
    rng = np.random.default_rng(7)
    for scale in (1, 4096, 1 << 20):
        history, shown = (
            (scale * rng.integers(0, 300, (40, size))).astype(np.int32) for size in (7, 11)
        )
        item_rows = (scale * rng.integers(0, 300, 2_000)).astype(np.int32)
        request_index = np.sort(rng.integers(0, 40, 2_000))
        assert_places_are_those_of_comparing(history, shown, item_rows, request_index)


def test_where_there_are_no_candidates_no_event_has_a_place() -> None:
    nobody, nothing = np.zeros(0, np.int64), np.zeros(0, np.int32)
    places = places_of(np.array([[2, 3]]), np.array([[2]]), nothing, nobody)
    assert [array.tolist() for array in places] == [[[0, 0]], [[0]], []]
