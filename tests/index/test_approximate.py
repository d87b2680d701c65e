"""The approximate index opens as many cells as the recall needs, and answers in full."""

import numpy as np
import pytest

from upnext.index.approximate import ApproximateIndex
from upnext.index.exact import ExactIndex
from upnext.schema import Floats


@pytest.fixture(scope="module")
def items() -> Floats:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16))
    near = centres[rng.integers(0, 40, 6000)] + 0.6 * rng.standard_normal((6000, 16))
    return near.astype(np.float32)


@pytest.fixture(scope="module")
def users() -> Floats:
    return np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32)


@pytest.mark.parametrize("min_recall", [0.5, 0.95])
def test_it_reaches_the_recall_with_as_few_cells_as_that_takes(
    items: Floats, users: Floats, min_recall: float
) -> None:
    index = ApproximateIndex.build(items, min_recall=min_recall, user_vectors=users)
    truth, _ = ExactIndex.build(items).search(users, 100)
    rows, _ = index.search(users, 100)
    found = np.mean([np.isin(line, best).mean() for line, best in zip(rows, truth, strict=True)])
    assert found == pytest.approx(index.recall_at_100)
    assert min_recall <= index.recall_at_100 < 1
    assert index.num_probes < index.cells.nlist


def test_more_recall_opens_more_cells(items: Floats, users: Floats) -> None:
    num_probes = [
        ApproximateIndex.build(items, min_recall=recall, user_vectors=users).num_probes
        for recall in (0.3, 0.6, 0.9)
    ]
    assert num_probes == sorted(set(num_probes))


def test_users_whose_cells_hold_too_little_are_answered_exactly(
    items: Floats, users: Floats
) -> None:
    index = ApproximateIndex.build(items, min_recall=0.3, user_vectors=users)
    excluded = [np.arange(2, 2 + user, dtype=np.int32) for user in range(4)]
    rows, scores = index.search(users[:4], 5900, excluded_rows=excluded)
    true_rows, true_scores = ExactIndex.build(items).search(users[:4], 5900, excluded_rows=excluded)
    assert (rows == true_rows).all()
    assert (scores == true_scores).all()
