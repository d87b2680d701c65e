"""The denominator is the sum over all items, and where it is estimated, right in the mean."""

import numpy as np
import pytest

from upnext.recommender.insight.denominator import Denominator
from upnext.schema import NUM_RESERVED_ROWS, Floats


def vectors(num_lines: int, *, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(num_lines, 4)).astype(np.float32)


def exact(users: Floats, items: Floats) -> Floats:
    scores = users.astype(np.float64) @ items[NUM_RESERVED_ROWS:].T.astype(np.float64)
    sums: Floats = np.exp(scores).sum(axis=1)
    return sums


def test_few_items_are_all_summed() -> None:
    users, items = vectors(5, seed=0), vectors(102, seed=1)
    denominator = Denominator.of(items, max_summed=100)
    assert len(denominator) == 100
    assert np.exp(denominator.log_sums(users)) == pytest.approx(exact(users, items), rel=1e-5)


@pytest.mark.parametrize("num_items", [101, 137, 500])
def test_the_mean_over_all_offsets_is_the_sum_over_all_items(num_items: int) -> None:
    users, items = vectors(5, seed=0), vectors(num_items + NUM_RESERVED_ROWS, seed=1)
    stride = -(-(num_items - 20) // 80)
    drawn = [Denominator.of(items, max_summed=100, offset=offset) for offset in range(stride)]
    assert max(map(len, drawn)) <= 100
    estimates = [np.exp(one.log_sums(users)) for one in drawn]
    assert np.mean(estimates, axis=0) == pytest.approx(exact(users, items), rel=1e-5)


def test_the_most_watched_items_stand_for_themselves() -> None:
    items = vectors(1002, seed=1)
    denominator = Denominator.of(items, max_summed=100)
    assert denominator.vectors[:20].tolist() == items[2:22].tolist()
    assert denominator.log_weights[:20].tolist() == [0.0] * 20
    assert len(set(denominator.log_weights[20:].tolist())) == 1


def test_great_scores_do_not_overflow() -> None:
    items = 1000 * vectors(50, seed=1)
    log_sums = Denominator.of(items).log_sums(vectors(5, seed=0))
    assert np.isfinite(log_sums).all()
