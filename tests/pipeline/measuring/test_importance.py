"""An input matters as much as the order of what was shown suffers from its being shuffled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import upnext.pipeline.measuring.importance
from upnext.evaluation.metrics import weighted_per_user_loss
from upnext.evaluation.report import FeatureImportance
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.input_groups import OF_CANDIDATES, OF_REQUESTS, TIES_OF_CANDIDATES
from upnext.examples.places import places_of
from upnext.examples.ranking_inputs import RANKING_INPUTS
from upnext.pipeline.evaluate import evaluate
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.importance import AS_IT_IS, InputImportance, shuffled_inputs
from upnext.pipeline.measuring.parts import Arrays, measure_part
from upnext.recommender import Recommender
from upnext.recommender.batch import Batch
from upnext.recommender.ranker import Ranker
from upnext.schema import Floats, Impressions

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

BATCH_SIZE = 40
EVERY_GROUP = OF_REQUESTS.keys() | OF_CANDIDATES.keys() | TIES_OF_CANDIDATES.keys()


@dataclass(frozen=True)
class LooksAtOneThing(Ranker):
    """A ranker that expects of each candidate the very number that one input says."""

    name: str

    def seconds_of(self, raw: Any) -> Floats:
        values: Floats = raw[self.name].reshape(len(raw["item_rows"]), -1)[:, 0]
        return values


@pytest.fixture(scope="module")
def bench(tiny_release: TrainedRelease) -> Bench:
    return Bench.prepare(tiny_release.logs_dir, tiny_release.registry, 1)


@pytest.fixture(scope="module")
def impressions(bench: Bench) -> Impressions:
    assert bench.split.test.impressions is not None
    return bench.split.test.impressions


@pytest.fixture(scope="module")
def examples(bench: Bench, impressions: Impressions) -> ImpressionExamples:
    encoder = bench.recommender.encoder
    return build_impression_examples(encoder, bench.history, bench.users, impressions)


@pytest.fixture(scope="module")
def arrays(bench: Bench, examples: ImpressionExamples) -> Arrays:
    return inputs_of(bench.recommender, examples)


@pytest.fixture(autouse=True)
def _several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnext.pipeline.measuring.importance, "BATCH_SIZE", BATCH_SIZE)


def inputs_of(recommender: Recommender, examples: ImpressionExamples) -> Arrays:
    batch = Batch(examples.history, examples.user_rows, examples.at_ms)
    moments = recommender.nominators.moments(batch)
    vectors = recommender.retriever.user_vectors(batch.history, batch.user_rows, batch.at_ms)
    request_index = examples.impressions_of(np.arange(examples.num_requests))[1]
    return recommender.inputs(
        batch, moments, vectors, request_index, examples.item_rows, examples.position
    ).arrays()


def importance(
    bench: Bench, ranker: Ranker, num_requests: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    config = replace(bench.config.evaluation, num_importance_requests=num_requests)
    bench = replace(
        bench,
        recommender=replace(bench.recommender, ranker=ranker),
        config=replace(bench.config, evaluation=config),
    )
    measured = InputImportance.of(bench)
    assert measured is not None
    measured = replace(measured, seed=seed)
    found = measured.importance(measure_part(measured))
    values = [one.loss_increase.value for one in found]
    assert values == sorted(values, reverse=True)
    return {one.name: one for one in found}


def loss(examples: ImpressionExamples, seconds: Floats) -> float:
    request_index = examples.impressions_of(np.arange(examples.num_requests))[1]
    outcome = (request_index, examples.watched, examples.watch_time_s)
    return weighted_per_user_loss(*outcome, seconds)


@pytest.mark.parametrize(
    ("about", "name"),
    [("how long it is", "duration_s"), ("where it stands on the page", "position")],
)
def test_what_a_network_ignores_does_not_matter(
    bench: Bench, examples: ImpressionExamples, arrays: Arrays, about: str, name: str
) -> None:
    """And what it does not leaves it, when shuffled, with a loss of chance."""
    ranker = bench.recommender.ranker
    assert ranker is not None
    one_thing = LooksAtOneThing(ranker.features, ranker.item_vectors, ranker.network, name)
    shuffled = [importance(bench, one_thing, seed=seed) for seed in range(8)]
    before = loss(examples, one_thing.seconds_of(arrays))
    increases = [one[about].loss_increase.value for one in shuffled]
    assert before + np.mean(increases) == pytest.approx(0.5, abs=0.05)
    found = shuffled[0]
    assert found.keys() == EVERY_GROUP
    increase = found.pop(about).loss_increase
    assert increase.low <= increase.value <= increase.high
    for other in found.values():
        ignored = other.loss_increase
        assert ignored.low <= 0 <= ignored.high, other.name
        assert ignored.value == 0


def test_importance_is_what_the_loss_grows_by(bench: Bench, examples: ImpressionExamples) -> None:
    ranker = bench.recommender.ranker
    assert ranker is not None
    assert examples.num_requests > 2 * BATCH_SIZE
    found = importance(bench, ranker)
    seconds: dict[str, list[Floats]] = {}
    for start in range(0, examples.num_requests, BATCH_SIZE):
        part = np.arange(start, min(start + BATCH_SIZE, examples.num_requests))
        arrays = inputs_of(bench.recommender, examples.take(part))
        rng = np.random.default_rng([0, start])
        for name, shuffled in shuffled_inputs(arrays, rng):
            seconds.setdefault(name, []).append(ranker.seconds_of(shuffled))
    losses = {name: loss(examples, np.concatenate(parts)) for name, parts in seconds.items()}
    before = losses.pop(AS_IT_IS)
    assert losses.keys() == found.keys()
    for name, after in losses.items():
        assert found[name].loss_increase.value == pytest.approx(after - before, abs=1e-9)
    assert max(one.loss_increase.low for one in found.values()) > 0


def test_what_is_shuffled_moves_whole_and_the_rest_stays(arrays: Arrays) -> None:
    variants = dict(shuffled_inputs(arrays, np.random.default_rng(1)))
    assert variants.keys() == {AS_IT_IS} | EVERY_GROUP
    singles = {**OF_CANDIDATES, **TIES_OF_CANDIDATES}
    groups = {**OF_REQUESTS, **{about: (name,) for about, name in singles.items()}}
    for about, names in groups.items():
        variant = variants[about]
        moved = [name for name in RANKING_INPUTS if variant[name] is not arrays[name]]
        places = {"history_place", "shown_place", "item_place"} if about in OF_REQUESTS else set()
        assert set(moved) == set(names) | places
        assert as_lines(variant, names, sort=True) == as_lines(arrays, names, sort=True)
        assert as_lines(variant, names, sort=False) != as_lines(arrays, names, sort=False)
    watched = variants["all that was watched"]
    expected = places_of(
        watched["history_rows"],
        watched["shown_rows"],
        watched["item_rows"],
        watched["request_index"],
    )
    for name, place in expected._asdict().items():
        np.testing.assert_array_equal(watched[name], place)


def as_lines(arrays: Arrays, names: tuple[str, ...], *, sort: bool) -> list[bytes]:
    """All that these inputs say of each request or candidate."""
    columns: list[NDArray[Any]] = [arrays[name] for name in names]
    lines = [b"".join(column[n].tobytes() for column in columns) for n in range(len(columns[0]))]
    return sorted(lines) if sort else lines


def test_a_sample_is_drawn_once_and_told(bench: Bench) -> None:
    ranker = bench.recommender.ranker
    assert ranker is not None
    first, again = (importance(bench, ranker, num_requests=50) for _ in range(2))
    assert first == again
    assert {one.num_requests for one in first.values()} == {50}


def test_what_a_release_does_not_know_is_not_shuffled(plain_release: TrainedRelease) -> None:
    """Neither user features nor what sources think."""
    recommender = plain_release.recommender
    items = recommender.encoder.catalogue.items
    examples = ImpressionExamples(
        history=recommender.history,
        user_rows=np.array([2, 3]),
        at_ms=np.array([50, 60]),
        starts=np.array([0, 2, 4]),
        item_rows=items.rows([items.id(row) for row in (2, 3, 4, 5)]),
        position=np.zeros(4, np.float32),
        watched=np.array([True, False, False, True]),
        watch_time_s=np.array([9, 0, 0, 7], np.float32),
        source_scores=np.zeros((4, 0), np.float32),
    )
    names = dict(shuffled_inputs(inputs_of(recommender, examples), np.random.default_rng(0)))
    unknown = {"who asks, and when", "what the sources of candidates think of it"}
    assert EVERY_GROUP - names.keys() >= unknown


def test_the_report_tells_what_the_ranker_lives_on(
    bench: Bench, tiny_release: TrainedRelease
) -> None:
    unranked = replace(bench, recommender=replace(bench.recommender, ranker=None))
    assert InputImportance.of(unranked) is None
    report = evaluate(tiny_release.logs_dir, tiny_release.registry, 1)
    assert {one.name for one in report.feature_importance} == EVERY_GROUP
    told = report.to_table()["feature_importance"][0]
    first = report.feature_importance[0]
    assert isinstance(first, FeatureImportance)
    assert told["name"] == first.name
    assert told["loss_increase"].keys() == {"value", "low", "high"}
