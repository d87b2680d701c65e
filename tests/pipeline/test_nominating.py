"""Sources tell ranking in training what they will tell it in serving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upnext.pipeline.train
from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.quantiles import quantile_bounds
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import Queries, QueryEncoder
from upnext.pipeline import nominating
from upnext.pipeline.learning_logs import split_logs
from upnext.pipeline.nominating import (
    counted_sources,
    scored_in_their_time,
    scores_of,
    source_scorer,
)
from upnext.recommender.batch import Batch
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import Floats, Logs, RecommendationRequest
from upnext.sources import SourcesConfig
from upnext.sources.scores import SOURCE_FEATURES

if TYPE_CHECKING:
    from tests.conftest import Lines, TrainedRelease

MakeLogs = Callable[..., Logs]
HOUR_MS = 3_600_000


def test_what_training_measures_by_is_what_serving_measures_by(
    tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    recommender, learned = tiny_release.recommender, tiny_release.learned
    train = split_logs(tiny_logs, tiny_release.config.split).train
    before = learned.encoder.history(train, recommender.users)
    trained = source_scorer(learned.encoder, before, learned.retrieval, learned.sources)
    served = recommender.nominators.scorer
    assert served.yardstick_rows.tolist() == trained.yardstick_rows.tolist()
    assert served.known.tolist() == trained.known.tolist()
    np.testing.assert_array_equal(served.item_vectors, trained.item_vectors)
    kept, fitted = served.sources.to_arrays(), trained.sources.to_arrays()
    assert kept.keys() == fitted.keys()
    assert all((kept[name] == fitted[name]).all() for name in kept)


def test_sources_count_impressions_of_items_that_nobody_had_watched_yet(
    tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    """To ranking such an item is unknown; what is fresh is judged by just these impressions."""
    learned, users = tiny_release.learned, tiny_release.recommender.users
    train = split_logs(tiny_logs, tiny_release.config.split).train
    assert train.impressions is not None
    history = learned.encoder.history(train, users)
    logged = build_impression_examples(learned.encoder, history, users, train.impressions)
    assert (logged.as_known_then().item_rows != logged.item_rows).any()
    config = tiny_release.config.sources
    counted = counted_sources(learned.encoder, history, logged, config).to_arrays()
    kept = learned.sources.to_arrays()
    assert kept.keys() == counted.keys()
    for name, array in counted.items():
        np.testing.assert_array_equal(kept[name], array)


def test_impressions_are_scored_as_serving_scores_them(
    tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    """But for the share of the yardstick, which jumps by one item where two scores are as equal."""
    recommender, learned = tiny_release.recommender, tiny_release.learned
    split = split_logs(tiny_logs, tiny_release.config.split)
    assert split.validation.impressions is not None
    encoder, users = learned.encoder, recommender.users
    train_history = encoder.history(split.train, users)
    examples = build_impression_examples(
        encoder, encoder.history(tiny_logs, users), users, split.validation.impressions
    ).take(np.arange(30))
    scorer = source_scorer(encoder, train_history, learned.retrieval, learned.sources)
    trained = scores_of(encoder, examples, scorer, learned.retrieval, tiny_release.config.sources)
    _, request_index = examples.impressions_of(np.arange(30))
    asked = Batch(recommender.history, examples.user_rows, examples.at_ms)
    served = recommender.nominators.scorer.scores(
        recommender.retriever.user_vectors(recommender.history, examples.user_rows, examples.at_ms),
        recommender.nominators.moments(asked),
        examples.item_rows,
        request_index,
    )
    one_item = 1.01 / len(scorer.yardstick_rows)
    np.testing.assert_allclose(served, trained, rtol=1e-4, atol=one_item)
    assert trained.std(axis=0)[:2].min() > 0.01


def test_of_unknown_items_no_source_says_a_word(tiny_logs: Logs) -> None:
    """Though users watched some: in serving they are not known either."""
    encoder, users = (
        build_encoder(tiny_logs, ExamplesConfig(max_items=60)),
        user_vocabulary(tiny_logs),
    )
    history = encoder.history(tiny_logs, users)
    assert (history.watches.rows == 1).any()
    sources = counted_sources(encoder, history, None, SourcesConfig())
    vectors = np.ones((encoder.catalogue.num_rows, 4), np.float32)
    retrieval = cast(TrainedRetrieval, SimpleNamespace(item_vectors=lambda: vectors))
    scorer = source_scorer(encoder, history, retrieval, sources)
    assert not scorer.known[:2].any()
    assert scorer.known[2:].all()
    assert scorer.yardstick_rows.min() == 2


def test_each_part_is_scored_by_what_lies_before_it(
    tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    """The first part by nothing; no later event moves what is told of an earlier part."""
    learned, config = tiny_release.learned, tiny_release.config.sources
    encoder, users = learned.encoder, tiny_release.recommender.users
    train = split_logs(tiny_logs, tiny_release.config.split).train
    assert train.impressions is not None
    shown = build_impression_examples(
        encoder, encoder.history(train, users), users, train.impressions
    )
    size = shown.num_requests // 3
    examples, earlier = shown.take(np.arange(3 * size)), shown.take(np.arange(2 * size))
    asked: list[tuple[int, int]] = []

    def retrain(before: History, part: int) -> TrainedRetrieval:
        asked.append((part, int(before.watches.at_ms.max())))
        return learned.retrieval

    scores = scored_in_their_time(encoder, examples, retrain, config, num_parts=3).source_scores
    assert [part for part, _ in asked] == [1, 2]
    assert all(last_ms < examples.at_ms[part * size] for part, last_ms in asked)
    first, second = examples.starts[[size, 2 * size]]
    assert not scores[:first].any()
    assert scores[first:second].any()
    assert scores[second:].any()
    of_two = scored_in_their_time(encoder, earlier, retrain, config, num_parts=2).source_scores
    np.testing.assert_array_equal(of_two, scores[:second])


@dataclass(frozen=True)
class CountingRetrieval:
    """Its vectors are counts of all that it learned from, so that nothing it saw stays hidden."""

    query_encoder: QueryEncoder
    before: History

    def item_vectors(self) -> Floats:
        watches, num_rows = self.before.watches, self.query_encoder.encoder.catalogue.num_rows
        counted = [
            np.bincount(watches.rows, weights=of_each, minlength=num_rows)
            for of_each in (None, watches.watch_time_s, watches.user_rows())
        ]
        return np.column_stack([np.ones(num_rows), *counted]).astype(np.float32)

    def user_vectors(self, history: History, queries: Queries) -> Floats:
        vectors = self.item_vectors()
        windows = zip(queries.watch_lo, queries.watch_hi, strict=True)
        pasts = [vectors[history.watches.rows[lo:hi]].sum(axis=0) for lo, hi in windows]
        return np.array(pasts, np.float32).reshape(len(queries), 4)


@dataclass(frozen=True)
class World:
    """Requests of three users for items of which some are unknown, and what they watched."""

    encoder: Encoder
    users: Vocabulary
    logs: Logs

    def examples(self, logs: Logs | None = None) -> ImpressionExamples:
        told = logs or self.logs
        assert told.impressions is not None
        history = self.encoder.history(told, self.users)
        return build_impression_examples(self.encoder, history, self.users, told.impressions)

    def scored(
        self, num_parts: int, logs: Logs | None = None, asked: list[int] | None = None
    ) -> ImpressionExamples:
        query_encoder = QueryEncoder(self.encoder, quantile_bounds(np.arange(20.0)))

        def retrain(before: History, part: int) -> TrainedRetrieval:
            if asked is not None:
                asked.append(part)
            return cast(TrainedRetrieval, CountingRetrieval(query_encoder, before))

        return scored_in_their_time(
            self.encoder, self.examples(logs), retrain, COUNTED, num_parts=num_parts
        )


COUNTED = SourcesConfig(segment="country", segment_shrinkage=2.0, fresh_days=1.0, lately_days=1.0)
USERS, ITEMS = [0, 1, 2], list(range(8))
DAY_MS = 24 * HOUR_MS
Watch = tuple[int, int, int, float]
Impression = tuple[int, int, int, int, int, bool, float]

ALWAYS_KNOWN: list[Watch] = [(0, ITEMS[0], 0, 5.0)] * 6
"""No five other items can have as many watches, of 25."""

few = settings(max_examples=40)
moments = st.integers(1, 3 * 24).map(lambda hour: hour * HOUR_MS)
watched = st.lists(
    st.tuples(st.sampled_from(USERS), st.sampled_from(ITEMS), moments, st.sampled_from([1.0, 5.0])),
    max_size=25,
)
asked_for = st.lists(
    st.tuples(
        st.sampled_from(USERS), moments, st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3)
    ),
    min_size=1,
    max_size=12,
)
"""Who asks, when, and what is shown; every second impression is watched."""


def impressions_of(asked: list[tuple[int, int, list[int]]]) -> list[Impression]:
    return [
        (request, user, item, at_ms, place, (request + place) % 2 == 0, 5.0)
        for request, (user, at_ms, items) in enumerate(asked)
        for place, item in enumerate(items)
    ]


def logs_of(make_logs: MakeLogs, lines: list[Watch], shown: list[Impression]) -> Logs:
    countries = pl.DataFrame({"user_id": USERS, "country": ["fi", "se", "fi"]})
    items: Lines = [(item, item * DAY_MS // 4, 60.0, item % 2, [], "") for item in ITEMS]
    return make_logs(watches=lines, impressions=shown, users=countries, items=items)


def world_of(make_logs: MakeLogs, lines: list[Watch], shown: list[Impression]) -> World:
    """Items are known if they are among the five most watched, in the whole of the logs."""
    logs = logs_of(make_logs, lines, shown)
    config = ExamplesConfig(max_items=5, user_features=("country",))
    return World(build_encoder(logs, config), user_vocabulary(logs), logs)


@few
@given(lines=watched, asked=asked_for, later=watched, num_parts=st.integers(2, 4), data=st.data())
def test_sources_know_nothing_of_what_came_after_the_part_began(
    make_logs: MakeLogs,
    lines: list[Watch],
    asked: list[tuple[int, int, list[int]]],
    later: list[Watch],
    num_parts: int,
    data: st.DataObject,
) -> None:
    """Nor of what the user did at the time of the request or later."""
    lines = [*ALWAYS_KNOWN, *lines]
    world = world_of(make_logs, lines, impressions_of(asked))
    truth = world.scored(num_parts)
    request = data.draw(st.integers(0, truth.num_requests - 1))
    edges = np.linspace(0, truth.num_requests, num_parts + 1).astype(np.int64)
    first = edges[np.searchsorted(edges, request, side="right") - 1]
    began_ms, at_ms = int(truth.at_ms[first]), int(truth.at_ms[request])
    asks = world.users.id(int(truth.user_rows[request]))

    def may_be_known(watch: Watch) -> bool:
        return watch[2] < (at_ms if watch[0] == asks else began_ms)

    rewritten = [line for line in lines if may_be_known(line)]
    rewritten += [line for line in later if not may_be_known(line)]
    shown = [
        (*line[:5], not line[5], 60.0 - line[6]) if line[3] >= began_ms else line
        for line in impressions_of(asked)
    ]
    another = world.scored(num_parts, logs_of(make_logs, rewritten, shown))
    of_request = slice(truth.starts[request], truth.starts[request + 1])
    assert another.item_rows.tolist() == truth.item_rows.tolist()
    told, expected = another.source_scores[of_request], truth.source_scores[of_request]
    assert told.tobytes() == expected.tobytes()


@few
@given(lines=watched, asked=asked_for, num_parts=st.integers(0, 5))
def test_of_the_first_part_nothing_is_told_and_all_else_stays_in_its_place(
    make_logs: MakeLogs,
    lines: list[Watch],
    asked: list[tuple[int, int, list[int]]],
    num_parts: int,
) -> None:
    lines = [*ALWAYS_KNOWN, *lines]
    world, parts = world_of(make_logs, lines, impressions_of(asked)), list[int]()
    plain, scored = world.examples(), world.scored(num_parts, asked=parts)
    assert scored.source_scores.shape == (len(plain.item_rows), len(SOURCE_FEATURES))
    for name in vars(plain).keys() - {"history", "source_scores"}:
        np.testing.assert_array_equal(getattr(scored, name), getattr(plain, name))
    size_of_first = plain.num_requests // max(1, num_parts)
    assert not scored.source_scores[: plain.starts[size_of_first]].any()
    num_with_requests = min(num_parts, plain.num_requests)
    assert len(parts) == max(0, num_with_requests - (num_parts <= plain.num_requests))
    assert sorted(set(parts)) == parts


def test_what_lies_before_a_part_does_move_what_is_told_of_it(make_logs: MakeLogs) -> None:
    """Each kind of event by itself: a watch of somebody, an outcome, and a watch of the user."""
    hours = [(1, 0), (1, 1), (0, 2), (2, 3), (1, 4)]
    lines = [(user, item, hour * HOUR_MS, 5.0) for hour, (user, item) in enumerate(hours)]
    shown = impressions_of(
        [(0, HOUR_MS, [0, 1]), (1, 2 * HOUR_MS, [2]), (0, 9 * HOUR_MS, [0, 1, 3]), (2, DAY_MS, [4])]
    )
    world = world_of(make_logs, lines, shown)
    truth = world.scored(2).source_scores
    assert not truth[:3].any()
    assert (truth[3:, -1] == 1).all()
    flipped = [(*shown[0][:5], not shown[0][5], 5.0), *shown[1:]]
    of_asker = [*lines, (0, 4, 9 * HOUR_MS - 1, 5.0)]
    for changed in ((lines[1:], shown), (lines, flipped), (of_asker[1:] + lines[:1], shown)):
        other = world.scored(2, logs_of(make_logs, *changed)).source_scores
        assert not other[:3].any()
        assert (other[3:6] != truth[3:6]).any()


def test_parts_before_which_nobody_watched_are_told_nothing(make_logs: MakeLogs) -> None:
    lines, parts = [(0, 1, 5 * HOUR_MS, 5.0), (1, 2, 5 * HOUR_MS, 5.0)], list[int]()
    shown = impressions_of([(0, hour * HOUR_MS, [1, 2]) for hour in (1, 3, 5, 7)])
    scores = world_of(make_logs, lines, shown).scored(4, asked=parts).source_scores
    assert parts == [3]
    assert not scores[:6].any()
    assert scores[6:].any()


def test_where_only_unknown_items_were_watched_before_nothing_is_told(make_logs: MakeLogs) -> None:
    often = [(user, item, DAY_MS + item, 5.0) for user in USERS for item in range(5)]
    shown = impressions_of([(0, HOUR_MS, [1]), (0, 3 * HOUR_MS, [1, 6]), (1, 2 * DAY_MS, [6, 2])])
    world = world_of(make_logs, [(0, 6, 2 * HOUR_MS, 5.0), *often], shown)
    assert world.encoder.catalogue.items.row(6) == 1
    scores = world.scored(3).source_scores
    assert not scores[:4].any()
    assert scores[4].any()


def test_many_requests_are_scored_as_a_few_at_once(
    make_logs: MakeLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [(user, item, item * HOUR_MS, 5.0) for user in USERS for item in ITEMS]
    asked = [(hour % 3, hour * HOUR_MS, [hour % 5, 3]) for hour in range(3, 24)]
    world = world_of(make_logs, lines, impressions_of(asked))
    at_once = world.scored(2).source_scores
    monkeypatch.setattr(nominating, "REQUESTS_AT_ONCE", 4)
    np.testing.assert_array_equal(world.scored(2).source_scores, at_once)
    assert at_once.any()


@pytest.mark.parametrize(("source_parts", "num_columns"), [(0, 0), (1, 0), (2, 6)])
def test_with_fewer_than_two_parts_ranking_is_told_nothing_of_the_sources(
    tiny_release: TrainedRelease,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source_parts: int,
    num_columns: int,
) -> None:
    """A day as far as ranking: what it would learn from, and choose its epoch by."""

    class AtRankingError(Exception):
        pass

    handed: list[ImpressionExamples] = []

    def stop(_: Encoder, *shown: ImpressionExamples, **__: object) -> None:
        handed.extend(shown[:2])
        raise AtRankingError

    monkeypatch.setattr(upnext.pipeline.train, "train_ranking", stop)
    tiny = tiny_release.config
    ranking = replace(tiny.ranking, source_parts=source_parts)
    config = replace(tiny, ranking=ranking, retrieval=replace(tiny.retrieval, num_epochs=1))
    with pytest.raises(AtRankingError):
        upnext.pipeline.train.train(tiny_release.logs_dir, tmp_path, config)
    assert [one.source_scores.shape[1] for one in handed] == [num_columns] * 2
    assert [bool(one.source_scores.any()) for one in handed] == [num_columns > 0] * 2


def test_a_release_that_was_told_nothing_of_the_sources_has_no_column_of_them(
    tiny_release: TrainedRelease, plain_release: TrainedRelease
) -> None:
    """Without impressions nothing is told, whatever `source_parts` says."""
    rankers = [release.recommender.ranker for release in (tiny_release, plain_release)]
    assert [ranker and ranker.num_sources for ranker in rankers] == [len(SOURCE_FEATURES), 0]
    answer = plain_release.recommender.recommend(RecommendationRequest(user_id="Zoë", at_ms=100))
    assert {source for item in answer.items for source in item.sources} > {"retrieval"}
