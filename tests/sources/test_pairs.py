"""Whole numbers that stand for pairs are in the order of the pairs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upnext.sources.pairs import falling, pair_keys, rows_of_keys

rows = st.integers(0, 2**31 - 1)


@given(st.lists(st.tuples(rows, rows)))
def test_keys_are_in_the_order_of_pairs(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    keys = pair_keys(first, second)
    assert np.argsort(keys, kind="stable").tolist() == sorted(
        range(len(pairs)), key=pairs.__getitem__
    )
    assert rows_of_keys(keys).tolist() == second.tolist()


@given(st.lists(st.floats(min_value=2.0**-120, max_value=2.0**120, width=32), min_size=2))
def test_falling_numbers_rise_as_scores_fall(values: list[float]) -> None:
    scores = np.array(values, np.float32)
    assert (np.diff(falling(scores)[np.argsort(-scores)]) >= 0).all()
    assert len(set(falling(scores).tolist())) == len(set(values))
