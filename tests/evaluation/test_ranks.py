"""Ranks over all items, against a plain sort of each event's scores."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.evaluation.ranks import SeenRows, rank_targets
from upnext.schema import Floats

TIED_SCORES = [-np.inf, -2.5, -0.0, 0.0, 1e-30, 1.0, 3.0]


def batches(scores: Floats) -> Callable[[slice], Floats]:
    return lambda events: scores[events]


def seen_rows(rows_by_event: list[set[int]]) -> SeenRows:
    lengths = [len(rows) for rows in rows_by_event]
    rows = [row for seen in rows_by_event for row in seen]
    return SeenRows(np.concatenate([[0], np.cumsum(lengths)]), np.array(rows, np.int32))


@settings(max_examples=60)
@given(st.integers(0, 6), st.integers(3, 12), st.integers(1, 14), st.integers(0, 2**16))
def test_ranks_are_places_in_a_stable_sort(
    num_events: int, num_rows: int, top_k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.choice(TIED_SCORES, (num_events, num_rows)).astype(np.float32)
    targets = rng.integers(0, num_rows, num_events).astype(np.int32)
    seen = [set(rng.integers(0, num_rows, 3).tolist()) for _ in range(num_events)]
    ranked = rank_targets(
        batches(scores),
        targets,
        num_rows=num_rows,
        seen=seen_rows(seen),
        top_k=top_k,
        batch_size=2,
    )
    for event, target in enumerate(targets):
        left_out = ({0, 1} | seen[event]) - ({target} if target >= 2 else set())
        order = sorted(set(range(num_rows)) - left_out, key=lambda row: (-scores[event, row], row))
        expected = order.index(target) + 1 if target >= 2 else num_rows + 1
        if target < 2 or scores[event, target] > -np.inf:
            assert ranked.ranks[event] == expected
        finite = [row for row in order if scores[event, row] > -np.inf]
        top = (finite + [-1] * top_k)[:top_k]
        assert ranked.top_rows[event].tolist() == top


def test_one_score_for_all_ranks_by_training_frequency() -> None:
    targets = np.array([2, 5, 9], np.int32)
    ranked = rank_targets(batches(np.zeros((3, 10), np.float32)), targets, num_rows=10, top_k=3)
    assert ranked.ranks.tolist() == [1, 4, 8]
    assert ranked.top_rows.tolist() == [[2, 3, 4]] * 3


def test_an_item_outside_the_vocabulary_is_a_miss() -> None:
    ranked = rank_targets(batches(np.ones((2, 6), np.float32)), np.array([0, 1]), num_rows=6)
    assert ranked.ranks.tolist() == [7, 7]


def test_the_size_of_a_batch_changes_nothing_and_no_batch_is_larger() -> None:
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((23, 40)).astype(np.float32)
    targets = rng.integers(2, 40, 23).astype(np.int32)
    whole = rank_targets(batches(scores), targets, num_rows=40)
    sizes: list[int] = []
    done: list[int] = []

    def score(events: slice) -> Floats:
        sizes.append(events.stop - events.start)
        return scores[events]

    small = rank_targets(score, targets, num_rows=40, batch_size=5, progress=done.append)
    assert small.ranks.tolist() == whole.ranks.tolist()
    assert (small.top_rows == whole.top_rows).all()
    assert sizes == [5, 5, 5, 5, 3]
    assert done == [5, 10, 15, 20, 23]


def test_scores_are_left_as_they_were() -> None:
    scores = np.arange(12, dtype=np.float32).reshape(2, 6)
    scores.flags.writeable = False
    ranked = rank_targets(batches(scores), np.array([5, 4]), num_rows=6)
    assert ranked.ranks.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("scores", "match"),
    [(np.zeros((1, 5), np.float32), "shape"), (np.full((1, 6), np.nan, np.float32), "nan")],
)
def test_scores_that_cannot_be_ranked_are_refused(scores: Floats, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        rank_targets(batches(scores), np.array([3]), num_rows=6)
