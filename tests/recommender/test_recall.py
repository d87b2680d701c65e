"""How much an index misses of a live request is what plain products of vectors say it misses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from upnext.best import Found
from upnext.index import ExactIndex, build_index
from upnext.index.choose import IndexConfig
from upnext.recommender import Recommender
from upnext.schema import (
    NUM_RESERVED_ROWS,
    Floats,
    ItemRules,
    LivePast,
    PastWatch,
    RecommendationRequest,
    Rows,
)

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

AT_MS = 10**13
"""After all that is in the logs."""


@dataclass(frozen=True)
class Missing:
    """An index that finds every row but some; `removed_rows` nobody should find."""

    exact: ExactIndex
    missed_rows: Rows
    removed_rows: Rows = field(default_factory=lambda: np.zeros(0, np.int32))

    def search(self, user_vectors: Floats, k: int, **options: Any) -> Found:
        gone = np.union1d(self.missed_rows, self.removed_rows)
        return self.exact.without_rows(gone).search(user_vectors, k, **options)


def with_index(recommender: Recommender, index: Any) -> Recommender:
    return replace(recommender, retriever=replace(recommender.retriever, index=index))


def with_bonus(recommender: Recommender, bonus: float) -> Recommender:
    return replace(recommender, retriever=replace(recommender.retriever, repeat_bonus=bonus))


def missing(recommender: Recommender, missed: Rows, removed: Rows | None = None) -> Recommender:
    exact = ExactIndex.build(recommender.retriever.item_vectors)
    gone = np.zeros(0, np.int32) if removed is None else removed
    return with_index(recommender, Missing(exact, missed, gone))


def directly(
    recommender: Recommender,
    request: RecommendationRequest,
    live: LivePast | None,
    missed: Rows,
    never: Rows,
    again: Rows | None = None,
) -> float:
    """The same share by sorting all products; what may come `again` is scored beside the index."""
    vector = recommender.user_vectors([request], [live])[0]
    scores = recommender.retriever.item_vectors @ vector
    if again is not None:
        scores[again] += np.float32(recommender.retriever.repeat_bonus)
        missed = np.setdiff1d(missed, again)
    allowed = [row for row in range(NUM_RESERVED_ROWS, len(scores)) if row not in set(never)]
    best = sorted(allowed, key=lambda row: (-scores[row], row))
    k = max(request.k, recommender.config.num_candidates)
    found = [row for row in best if row not in set(missed)][:k]
    return len(set(found) & set(best[:k])) / len(best[:k])


def rows_of(recommender: Recommender, ids: Any) -> Rows:
    return np.array([recommender.encoder.catalogue.items.row(one) for one in ids], np.int32)


@pytest.mark.parametrize("bonus", [0.0, 0.7, -3.0])
@pytest.mark.parametrize("k", [5, 60])
@pytest.mark.parametrize("user_id", ["u00003", "u00017", "nobody"])
def test_recall_is_what_a_direct_comparison_says(
    tiny_release: TrainedRelease, user_id: str, k: int, bonus: float
) -> None:
    trained = with_bonus(tiny_release.recommender, bonus)
    missed = np.arange(NUM_RESERVED_ROWS, trained.encoder.catalogue.num_rows, 3, dtype=np.int32)
    request = RecommendationRequest(user_id=user_id, k=k, at_ms=AT_MS, exclude_watched=False)
    told = missing(trained, missed).index_recall(request, None)
    batch = trained.batch([request], [None])
    again = batch.history.watches.all_before(batch.user_rows, batch.at_ms)[1] if bonus else None
    assert told == pytest.approx(directly(trained, request, None, missed, missed[:0], again))
    assert told is not None
    assert 0 < told < 1


def test_what_a_request_leaves_out_is_not_missed(tiny_release: TrainedRelease) -> None:
    """Watched items, what rules forbid, what was taken out of the index, and the live past."""
    trained = tiny_release.recommender
    items, num_rows = trained.encoder.catalogue.items, trained.encoder.catalogue.num_rows
    blocked = [items.id(row) for row in (3, 7, 11)]
    watched = [items.id(row) for row in (4, 8, 12)]
    removed = np.array([5, 9], np.int32)
    missed = np.arange(6, num_rows, 4, dtype=np.int32)
    request = RecommendationRequest(
        history=[PastWatch(item_id=item) for item in watched],
        at_ms=AT_MS,
        rules=ItemRules(blocked_items=blocked),
    )
    live = LivePast(watched=[items.id(20)], started_at_ms=[AT_MS - 1], watch_time_s=[9.0])
    never = np.concatenate([rows_of(trained, [*blocked, *watched]), removed])
    told = missing(trained, missed, removed).index_recall(request, None)
    assert told == pytest.approx(directly(trained, request, None, missed, never))
    anybody = replace(request, history=None, user_id="nobody")
    told = missing(trained, missed, removed).index_recall(anybody, live)
    never = np.concatenate([rows_of(trained, [*blocked, items.id(20)]), removed])
    assert told == pytest.approx(directly(trained, anybody, live, missed, never))


def test_an_exact_index_is_not_compared(tiny_release: TrainedRelease) -> None:
    trained = tiny_release.recommender
    exact = ExactIndex.build(trained.retriever.item_vectors)
    assert with_index(trained, exact).index_recall(RecommendationRequest(), None) is None


def test_an_index_that_searches_as_well_as_can_be_misses_nothing(
    tiny_release: TrainedRelease,
) -> None:
    trained = tiny_release.recommender
    vectors = trained.retriever.item_vectors
    index = build_index(vectors, IndexConfig(kind="approximate", min_recall=1.0))
    recall = with_index(trained, index).index_recall(RecommendationRequest(user_id="u00003"), None)
    assert recall == 1.0


def test_where_nothing_is_allowed_nothing_is_compared(tiny_release: TrainedRelease) -> None:
    trained = tiny_release.recommender
    request = RecommendationRequest(rules=ItemRules(allowed_items=[]))
    none = np.zeros(0, np.int32)
    assert missing(trained, none).index_recall(request, None) is None
