"""What may come again stands where its score and the bonus put it, in pages and in evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.best import Found
from upnext.examples.watches import WatchTargets
from upnext.index import Index
from upnext.pipeline.measuring.targets import TargetRanks
from upnext.recommender import Recommender
from upnext.recommender.repeats import with_repeats
from upnext.recommender.retriever import Retriever
from upnext.schema import NUM_RESERVED_ROWS, Floats, ItemRules, RecommendationRequest, Rows

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_items=st.integers(1, 40),
    num_again=st.integers(0, 12),
    count=st.integers(1, 12),
    bonus=st.floats(-5, 5),
)
def test_they_are_the_best_of_all_scores(
    seed: int, num_items: int, num_again: int, count: int, bonus: float
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=num_items + 2).astype(np.float32)
    rows = np.arange(NUM_RESERVED_ROWS, num_items + 2, dtype=np.int32)
    again = np.sort(rng.permutation(rows)[:num_again])
    others = np.setdiff1d(rows, again)
    best = others[np.argsort(-scores[others], kind="stable")][:count]
    found = np.pad(best, (0, count - len(best)), constant_values=-1)
    of_found = np.where(found >= 0, scores[found], -np.inf).astype(np.float32)
    told = with_repeats((found, of_found), count, again=again, of_again=scores[again], bonus=bonus)
    raised = scores.copy()
    raised[again] += np.float32(bonus)
    expected = np.sort(raised[rows])[::-1][:count]
    assert told[0].shape == told[1].shape == (count,)
    is_item = told[0] >= 0
    assert is_item.sum() == len(expected)
    np.testing.assert_array_equal(told[1][is_item], expected)
    np.testing.assert_array_equal(raised[told[0][is_item]], expected)
    assert np.isneginf(told[1][~is_item]).all()


def with_bonus(recommender: Recommender, bonus: float) -> Recommender:
    """One that has no ranking, so that pages are in retrieval's order."""
    retriever = replace(recommender.retriever, repeat_bonus=bonus)
    nominators = replace(recommender.nominators, retriever=retriever)
    return replace(recommender, ranker=None, retriever=retriever, nominators=nominators)


def watched_by(recommender: Recommender, user_row: int) -> Rows:
    watches = recommender.history.watches
    rows = watches.rows[watches.starts[user_row] : watches.starts[user_row + 1]]
    return np.unique(rows[rows >= NUM_RESERVED_ROWS])


@pytest.mark.parametrize("bonus", [50.0, 0.7, 0.0, -50.0])
def test_a_page_is_in_the_order_of_scores_with_it(
    tiny_release: TrainedRelease, bonus: float
) -> None:
    recommender = with_bonus(tiny_release.recommender, bonus)
    user_row = int(np.argmax(np.diff(recommender.history.watches.starts)))
    request = RecommendationRequest(
        user_id=recommender.users.id(user_row), k=10, at_ms=10**13, exclude_watched=False
    )
    page = recommender.recommend(request).items
    watched = watched_by(recommender, user_row)
    rows = recommender.encoder.catalogue.items.rows([one.item_id for one in page])
    vectors = recommender.retriever.item_vectors
    user = recommender.retriever.user_vectors(
        recommender.history, np.array([user_row]), np.array([10**13])
    )[0]
    scores = vectors @ user
    scores[watched] += np.float32(bonus)
    np.testing.assert_allclose(
        [one.retrieval_score for one in page], scores[rows], rtol=1e-4, atol=1e-4
    )
    assert [one.retrieval_score for one in page] == sorted(
        (one.retrieval_score for one in page), reverse=True
    )
    is_watched = np.isin(rows, watched)
    if bonus == 50.0:
        assert is_watched[: len(watched)].all()
    if bonus == -50.0:
        assert not is_watched.any()


def test_what_is_excluded_or_not_allowed_does_not_come_again(
    tiny_release: TrainedRelease,
) -> None:
    recommender = with_bonus(tiny_release.recommender, 50.0)
    user_row = int(np.argmax(np.diff(recommender.history.watches.starts)))
    watched = watched_by(recommender, user_row)
    items = recommender.encoder.catalogue.items
    user_id = recommender.users.id(user_row)
    excluding = RecommendationRequest(user_id=user_id, k=10, at_ms=10**13)
    shown = [one.item_id for one in recommender.recommend(excluding).items]
    assert not np.isin(items.rows(shown), watched).any()
    allowed = [items.id(row) for row in (int(watched[0]), *range(2, 30)) if row != watched[1]]
    ruled = replace(excluding, exclude_watched=False, rules=ItemRules(allowed_items=allowed))
    shown = [one.item_id for one in recommender.recommend(ruled).items]
    assert shown[0] in allowed
    assert items.id(int(watched[1])) not in shown


@dataclass(frozen=True)
class Asked:
    """An index that remembers how many items it was asked for."""

    index: Index
    counts: list[int]

    @property
    def removed_rows(self) -> Rows:
        return self.index.removed_rows

    def search(self, user_vectors: Floats, k: int, **filters: Any) -> Found:
        self.counts.append(k)
        return self.index.search(user_vectors, k, **filters)


def test_who_has_watched_much_asks_the_index_for_no_more_than_others(
    tiny_release: TrainedRelease,
) -> None:
    retriever = with_bonus(tiny_release.recommender, 1.0).retriever
    asked: Any = Asked(retriever.index, [])
    user = retriever.item_vectors[5:6]
    again = np.arange(NUM_RESERVED_ROWS, len(retriever.item_vectors), 2, dtype=np.int32)
    rows, scores = replace(retriever, index=asked).nearest(user, 7, None, again_rows=[again])
    assert asked.counts == [7]
    raised = (retriever.item_vectors @ user[0]).astype(np.float32)
    raised[again] += np.float32(1.0)
    np.testing.assert_allclose(scores[0], np.sort(raised[NUM_RESERVED_ROWS:])[::-1][:7], rtol=1e-5)
    np.testing.assert_allclose(raised[rows[0]], scores[0], rtol=1e-5)


@pytest.mark.parametrize("bonus", [2.0, -3.0])
def test_evaluation_ranks_as_pages_are_ordered(tiny_release: TrainedRelease, bonus: float) -> None:
    recommender = with_bonus(tiny_release.recommender, bonus)
    history = recommender.history
    user_rows = np.flatnonzero(np.diff(history.watches.starts) > 3)[:20]
    at_ms = np.full(len(user_rows), 10**13)
    targets = WatchTargets(history, user_rows, at_ms, np.full(len(user_rows), 2, np.int32))
    measured = TargetRanks(
        targets=targets, retriever=recommender.retriever, baselines=(), masks_watched=False
    ).measure(slice(None))
    watched = [watched_by(recommender, int(row)) for row in user_rows]
    vectors = recommender.retriever.user_vectors(history, user_rows, at_ms)
    found, _ = recommender.retriever.nearest(vectors, 10, None, again_rows=watched)
    np.testing.assert_array_equal(found, measured["top_rows"][:, 0, :10])


def test_a_release_of_before_knows_of_no_bonus(tiny_release: TrainedRelease) -> None:
    release, recommender = tiny_release.release, tiny_release.recommender
    name = "retrieval/repeat_bonus.npy"
    told = float(release.array(name)[0])
    assert (
        recommender.retriever.repeat_bonus
        == told
        == np.float32(tiny_release.learned.retrieval.repeat_bonus)
    )
    assert np.isfinite(told)
    files = {one: entry for one, entry in release.files.items() if one != name}
    before = Retriever.open(
        replace(release, files=files), recommender.encoder, example_age_days=0.0, num_threads=1
    )
    assert before.repeat_bonus == 0.0
