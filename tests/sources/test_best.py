"""The k best of what is proposed, against sorting everything in plain Python."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upnext.sources.best import best_first, falling, find

NUM_REQUESTS, NUM_ROWS = 3, 7

proposals = st.dictionaries(
    st.tuples(st.integers(0, NUM_REQUESTS - 1), st.integers(2, NUM_ROWS - 1)),
    st.sampled_from([0.0, 1e-30, 0.25, 0.5, 3.0]),
)
exclusions = st.lists(
    st.lists(st.integers(-1, NUM_ROWS - 1)), min_size=NUM_REQUESTS, max_size=NUM_REQUESTS
)


@given(proposals, exclusions, st.integers(1, 8))
def test_the_best_come_first_each_request_by_itself(
    proposed: dict[tuple[int, int], float], excluded: list[list[int]], k: int
) -> None:
    requests, item_rows = np.array(list(proposed), np.int64).reshape(-1, 2).T
    rows, scores = best_first(
        requests,
        item_rows,
        np.array(list(proposed.values()), np.float32),
        k,
        num_requests=NUM_REQUESTS,
        excluded_rows=[np.array(left_out, np.int32) for left_out in excluded],
    )
    for request in range(NUM_REQUESTS):
        standing = sorted(
            (-np.float32(score), row)
            for (asker, row), score in proposed.items()
            if asker == request and score > 0 and row not in excluded[request]
        )[:k]
        padding = k - len(standing)
        assert rows[request].tolist() == [row for _, row in standing] + [-1] * padding
        wanted = [float(-score) for score, _ in standing] + [-np.inf] * padding
        assert scores[request].tolist() == wanted


@given(st.lists(st.floats(min_value=2.0**-120, max_value=2.0**120, width=32), min_size=2))
def test_falling_numbers_rise_as_scores_fall(values: list[float]) -> None:
    scores = np.array(values, np.float32)
    assert (np.diff(falling(scores)[np.argsort(-scores)]) >= 0).all()
    assert len(set(falling(scores).tolist())) == len(set(values))


@given(st.sets(st.integers(-9, 9)), st.lists(st.integers(-12, 12)))
def test_what_is_among_the_keys_is_found_in_its_place(keys: set[int], wanted: list[int]) -> None:
    ascending, asked = np.array(sorted(keys), np.int64), np.array(wanted, np.int64)
    place, is_there = find(ascending, asked)
    assert is_there.tolist() == [key in keys for key in wanted]
    assert ascending[place[is_there]].tolist() == asked[is_there].tolist()
