"""Candidates are the union of what each source nominates, and it is told truly who did."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import upnext.recommender.opened
from upnext.examples.impressions import ImpressionExamples
from upnext.examples.ranking_inputs import RankingInputs
from upnext.pipeline.learning_logs import split_logs
from upnext.pipeline.nominating import scores_of, source_scorer
from upnext.recommender import Recommender
from upnext.recommender.batch import Batch
from upnext.recommender.candidates import moments_of
from upnext.schema import Floats, ItemRules, Logs, RecommendationRequest, Rows, TimesMs
from upnext.sources import NOMINATORS, Nominations, Sources, SourcesConfig
from upnext.sources.scores import SOURCE_FEATURES

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

SHARE = SOURCE_FEATURES.index("share of the yardstick that retrieval scores lower")
NUM_FOUND = 8
"""So few that most of what the counted sources nominate is not among them."""


@dataclass(frozen=True)
class Asked:
    """One moment of every user of a release, and what each had watched by then."""

    recommender: Recommender
    user_rows: NDArray[np.int64]
    at_ms: TimesMs
    watched: list[Rows]
    user_vectors: Floats

    def nominate(self, **options: Any) -> Nominations:
        how: dict[str, Any] = {"excluded_rows": self.watched, "allowed_rows": None} | options
        recommender = self.recommender
        batch = Batch(recommender.history, self.user_rows, self.at_ms)
        found, _ = recommender.retriever.nearest(self.user_vectors, NUM_FOUND, **how)
        return recommender.nominators.nominate(recommender.nominators.moments(batch), found, **how)

    def nominated(self) -> list[list[Rows]]:
        """Of each nominator its own list for each moment, without what was watched."""
        recommender, config = self.recommender, self.recommender.nominators.scorer.sources.config
        sources = recommender.nominators.scorer.sources
        assert sources.together is not None
        assert sources.popular is not None
        assert sources.fresh is not None
        moments = moments_of(
            recommender.encoder, recommender.history, self.user_rows, self.at_ms, segment=None
        )
        without = {"excluded_rows": self.watched}
        together, _ = sources.together.candidates(
            moments.history_rows, config.num_together, **without
        )
        popular, _ = sources.popular.candidates(moments.segment_rows, config.num_popular, **without)
        fresh, _ = sources.fresh.candidates(moments.at_ms, config.num_fresh, **without)
        lists = [self._nearest(), together, popular, fresh]
        return [[line[line >= 0] for line in rows] for rows in lists]

    def _nearest(self) -> Rows:
        """By every inner product, without an index."""
        products = self.user_vectors @ self.recommender.retriever.item_vectors.T
        products[:, :2] = -np.inf
        for line, rows in zip(products, self.watched, strict=True):
            line[rows] = -np.inf
        return np.argsort(-products, axis=1)[:, :NUM_FOUND].astype(np.int32)


@pytest.fixture(scope="module")
def asked(tiny_release: TrainedRelease) -> Asked:
    return _asked(tiny_release.recommender)


def _asked(recommender: Recommender) -> Asked:
    history = recommender.history
    user_rows = np.arange(2, recommender.users.num_rows)
    at_ms = np.full(len(user_rows), history.watches.at_ms.max() + 3_600_000)
    starts, rows = history.watches.all_before(user_rows, at_ms)
    vectors = recommender.retriever.user_vectors(history, user_rows, at_ms)
    return Asked(recommender, user_rows, at_ms, np.split(rows, starts[1:-1]), vectors)


def test_candidates_are_each_once_what_anybody_nominates_retrievals_nearest_first(
    asked: Asked,
) -> None:
    nominations, by_nominator = asked.nominate(), asked.nominated()
    for moment, line in enumerate(nominations.item_rows):
        rows = line[line >= 0].tolist()
        lists = [rows_of[moment].tolist() for rows_of in by_nominator]
        assert len(rows) == len(set(rows))
        assert set(rows) == set().union(*lists)
        assert rows[:NUM_FOUND] == lists[0]


def test_who_nominated_what_is_told_truly(asked: Asked) -> None:
    nominations, by_nominator = asked.nominate(), asked.nominated()
    assert nominations.nominated_by.shape[2] == len(NOMINATORS) == len(by_nominator)
    for nominator, lists in enumerate(by_nominator):
        for moment, rows in enumerate(lists):
            told = nominations.nominated_by[moment, :, nominator]
            assert set(nominations.item_rows[moment, told]) == set(rows)
    num_nominators = nominations.nominated_by.sum(axis=2)
    assert ((num_nominators > 0) == (nominations.item_rows >= 0)).all()
    assert set(num_nominators.ravel()) >= {0, 1, 2, 3}


def test_what_is_excluded_nobody_nominates(asked: Asked) -> None:
    anything = asked.nominate(excluded_rows=None).item_rows
    without = asked.nominate().item_rows
    pairs = list(zip(without, anything, asked.watched, strict=True))
    assert not any(np.isin(line, watched).any() for line, _, watched in pairs)
    assert sum(np.isin(line, watched).any() for _, line, watched in pairs) > len(pairs) // 2


@pytest.mark.parametrize("step", [2, 5, 1_000])
def test_rules_let_no_source_pass(asked: Asked, step: int) -> None:
    """Retrieval looks further for as many; of the counted sources what is allowed is left."""
    allowed = np.arange(2, asked.recommender.encoder.catalogue.num_rows, step, dtype=np.int32)
    free, bound = asked.nominate(), asked.nominate(allowed_rows=allowed)
    assert np.isin(bound.item_rows, [-1, *allowed]).all()
    assert not bound.nominated_by[bound.item_rows < 0].any()
    for moment, watched in enumerate(asked.watched):
        num_left = len(np.setdiff1d(allowed, watched))
        assert bound.nominated_by[moment, :, 0].sum() == min(NUM_FOUND, num_left)
        for nominator in range(1, len(NOMINATORS)):
            of_free, of_bound = (
                one.item_rows[moment, one.nominated_by[moment, :, nominator]]
                for one in (free, bound)
            )
            assert set(of_bound) == set(of_free) & set(allowed)


def test_moments_together_have_the_candidates_of_each_alone(asked: Asked) -> None:
    """In lines of one length, whoever is asked about."""
    recommender, history = asked.recommender, asked.recommender.history
    together = recommender.candidates_of(history, asked.user_rows, asked.at_ms, asked.watched)
    num_counted = recommender.nominators.num_counted
    assert together.shape == (len(asked.at_ms), recommender.config.num_candidates + num_counted)
    for moment in range(0, len(asked.at_ms), 7):
        one = slice(moment, moment + 1)
        alone = recommender.candidates_of(
            history, asked.user_rows[one], asked.at_ms[one], asked.watched[one]
        )
        assert alone.tolist() == together[one].tolist()


def test_each_item_tells_who_nominated_it_and_its_rank_in_retrieval(asked: Asked) -> None:
    """The rank is None exactly where retrieval did not nominate it; it has a score all the same."""
    recommender = replace(
        asked.recommender, config=replace(asked.recommender.config, num_candidates=NUM_FOUND)
    )
    nominations, ids = asked.nominate(), recommender.encoder.catalogue.items
    ranks: list[int | None] = []
    for moment, user_row in enumerate(asked.user_rows.tolist()):
        request = RecommendationRequest(
            user_id=recommender.users.id(user_row), at_ms=int(asked.at_ms[moment]), k=NUM_FOUND
        )
        rows = nominations.item_rows[moment].tolist()
        for item in recommender.recommend(request).items:
            row = int(ids.row(item.item_id))
            told = nominations.nominated_by[moment, rows.index(row)]
            assert list(item.sources) == [NOMINATORS[place] for place in np.flatnonzero(told)]
            assert item.retrieval_rank == (rows.index(row) + 1 if told[0] else None)
            score = asked.user_vectors[moment] @ recommender.retriever.item_vectors[row]
            assert item.retrieval_score == pytest.approx(score, rel=1e-4, abs=1e-5)
            ranks.append(item.retrieval_rank)
    assert set(ranks) == {None, *range(1, NUM_FOUND + 1)}


def test_rules_of_a_request_hold_for_what_was_counted_too(asked: Asked) -> None:
    allowed = asked.recommender.encoder.catalogue.items.series()[::9].to_list()
    request = RecommendationRequest(
        at_ms=int(asked.at_ms[0]), k=50, rules=ItemRules(allowed_items=allowed)
    )
    answer = asked.recommender.recommend(request)
    assert {item.item_id for item in answer.items} == set(allowed)
    assert answer.num_candidates == len(allowed)


def test_ranking_is_handed_what_training_would_have_told_it(
    tiny_release: TrainedRelease,
    tiny_logs: Logs,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The candidates of a request as if they were its logged impressions.

    The share of the yardstick may jump by an item, where two of its scores are all but equal.
    """
    served: list[RankingInputs] = []

    def encode_and_keep(*args: Any, **kwargs: Any) -> RankingInputs:
        served.append(RankingInputs(*args, **kwargs))
        return served[-1]

    monkeypatch.setattr(upnext.recommender.opened, "RankingInputs", encode_and_keep)
    chosen = range(0, len(asked.user_rows), 5)
    for moment in chosen:
        user_id = asked.recommender.users.id(int(asked.user_rows[moment]))
        asked.recommender.recommend(
            RecommendationRequest(user_id=user_id, at_ms=int(asked.at_ms[moment]))
        )
    learned, users = tiny_release.learned, asked.recommender.users
    train = split_logs(tiny_logs, tiny_release.config.split).train
    scorer = source_scorer(
        learned.encoder, learned.encoder.history(train, users), learned.retrieval, learned.sources
    )
    as_logged = _as_logged(asked, np.array(chosen), [one.item_rows for one in served])
    trained = scores_of(
        learned.encoder, as_logged, scorer, learned.retrieval, tiny_release.config.sources
    )
    told = np.concatenate([one.source_scores for one in served])
    others = np.arange(len(SOURCE_FEATURES)) != SHARE
    np.testing.assert_allclose(told[:, others], trained[:, others], rtol=1e-4, atol=1e-5)
    one_item = 1.01 / len(scorer.yardstick_rows)
    np.testing.assert_allclose(told[:, SHARE], trained[:, SHARE], atol=one_item)
    assert (told[:, :-1].std(axis=0) > 0).all()


def test_without_counted_sources_retrieval_is_left(asked: Asked) -> None:
    off = SourcesConfig(num_together=0, num_popular=0, num_fresh=0)
    scorer = replace(asked.recommender.nominators.scorer, sources=Sources.from_arrays({}, off))
    alone = replace(
        asked,
        recommender=replace(
            asked.recommender, nominators=replace(asked.recommender.nominators, scorer=scorer)
        ),
    )
    nominations = alone.nominate()
    assert nominations.item_rows.tolist() == asked.nominate().item_rows[:, :NUM_FOUND].tolist()
    assert nominations.nominated_by[..., 0].all()
    assert not nominations.nominated_by[..., 1:].any()
    answer = alone.recommender.recommend(RecommendationRequest(at_ms=int(asked.at_ms[0])))
    assert answer.num_candidates == alone.recommender.config.num_candidates
    assert {tuple(item.sources) for item in answer.items} == {("retrieval",)}


def test_a_segment_is_what_the_user_feature_says(asked: Asked) -> None:
    recommender, history = asked.recommender, asked.recommender.history
    moments = moments_of(
        recommender.encoder, history, asked.user_rows, asked.at_ms, segment="device"
    )
    devices = list(recommender.encoder.user_features).index("device")
    assert moments.segment_rows.tolist() == history.feature_rows[asked.user_rows, devices].tolist()
    assert len(set(moments.segment_rows.tolist())) > 1
    last = [line[line > 0].tolist() for line in moments.history_rows]
    assert last == [rows[-50:].tolist() for rows in asked.watched]


def _as_logged(asked: Asked, chosen: NDArray[np.int64], rows: list[Rows]) -> ImpressionExamples:
    """Requests that showed these items."""
    num_shown = sum(map(len, rows))
    return ImpressionExamples(
        history=asked.recommender.history,
        user_rows=asked.user_rows[chosen],
        at_ms=asked.at_ms[chosen],
        starts=np.concatenate([[0], np.cumsum([len(one) for one in rows])]),
        item_rows=np.concatenate(rows),
        position=np.zeros(num_shown, np.float32),
        watched=np.zeros(num_shown, np.bool_),
        watch_time_s=np.zeros(num_shown, np.float32),
        source_scores=np.zeros((num_shown, 0), np.float32),
    )
