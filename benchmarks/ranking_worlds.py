"""What rankers are compared on: examples that are built once, and how one of them is measured.

A world is logs to learn from, then a part to choose by, then one to be measured on. A simulated one
also has moments with fixed candidates, those of one release, whose true expected watch times are
known: what the best ten by a ranker's scores would really bring.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.evaluation.compare import ShownImpressions
from upnext.evaluation.intervals import (
    MetricValue,
    Values,
    paired_bootstrap_interval,
    ratio_of_sums,
)
from upnext.evaluation.slices import Flags
from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.ranking_inputs import RankingInputs
from upnext.examples.watches import WatchTargets
from upnext.logs.public import load_public
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.world import SimulationConfig
from upnext.logs.split import Split, split_by_time
from upnext.pipeline.config import RunConfig
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.oracle import Oracle
from upnext.pipeline.measuring.policies import PAGE_SIZE
from upnext.pipeline.train import train
from upnext.ranking.config import RankingConfig
from upnext.ranking.model import RankingModel
from upnext.ranking.train import train_ranking
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, UNKNOWN_ROW, Floats, Logs, Rows

REQUESTS_AT_ONCE = 64
FRESH_DAYS = 3.0
KUAIRAND_DAYS = 2.0
"""Days to choose by, and as many to be measured on: a day holds but 2,000 impressions."""
MS_TO_CHINA = 8 * 3_600_000


@dataclass(frozen=True)
class Choices:
    """B moments of the test days with K candidates each, -1 where there are fewer.

    `batches`: what ranking is told of them; `true_s` [B, K]: their expected seconds if looked at.
    """

    user_rows: NDArray[np.int64]
    candidates: Rows
    true_s: Floats
    batches: tuple[RankingInputs, ...]

    def page_s(self, seconds: Floats) -> Values:
        """[B] the true mean of the best ten by what is expected of all candidates, [M]."""
        scores = np.full(self.candidates.shape, -np.inf, np.float32)
        scores[self.candidates >= NUM_RESERVED_ROWS] = seconds
        page = np.argsort(-scores, axis=1, kind="stable")[:, :PAGE_SIZE]
        means_s: Values = np.take_along_axis(self.true_s, page, axis=1).mean(
            axis=1, dtype=np.float64
        )
        return means_s

    def best_page_s(self) -> Values:
        """[B] the same of the best order there is."""
        best = -np.sort(-self.true_s.astype(np.float64), axis=1)[:, :PAGE_SIZE]
        means_s: Values = best.mean(axis=1)
        return means_s


@dataclass(frozen=True)
class World:
    """Examples of three parts of one log, and what came of the test's impressions, page by page."""

    name: str
    encoder: Encoder
    train: ImpressionExamples
    validation: ImpressionExamples
    batches: tuple[RankingInputs, ...]
    shown: ShownImpressions
    slices: Mapping[str, Flags]
    choices: Choices | None

    @property
    def mean_watch_s(self) -> float:
        """Of the watched impressions that are learned from."""
        return float(self.train.watch_time_s[self.train.watched].mean(dtype=np.float64))


@dataclass(frozen=True)
class Measured:
    """What a ranker expects of the test's impressions [M], and what its pages bring [B]."""

    name: str
    uncalibrated_s: Floats
    calibrated_s: Floats
    page_s: Values | None
    num_epochs: int
    examples_per_cpu_s: float


def measured(world: World, name: str, config: RankingConfig) -> Measured:
    """Trains one ranker and asks it everything; features and validation are part of the time."""
    began_s = process_time()
    trained = train_ranking(world.encoder, world.train, world.validation, config)
    spent_s = process_time() - began_s
    uncalibrated_s, calibrated_s = seconds_of(trained.model, world.batches)
    page_s = None
    if world.choices is not None:
        page_s = world.choices.page_s(seconds_of(trained.model, world.choices.batches)[0])
    num_examples = len(world.train.item_rows) * len(trained.epochs)
    return Measured(
        name, uncalibrated_s, calibrated_s, page_s, len(trained.epochs), num_examples / spent_s
    )


def seconds_of(model: RankingModel, batches: tuple[RankingInputs, ...]) -> tuple[Floats, Floats]:
    """What is expected of all candidates of some batches, before and after calibration: 2 × [M]."""
    before, after = [], []
    with torch.inference_mode():
        for raw in batches:
            seconds = model.scoring.uncalibrated(model.inputs(raw))
            before.append(seconds.numpy())
            after.append(model.scoring.calibration(seconds).numpy())
    return np.concatenate(before), np.concatenate(after)


def difference(ours: Values, others: Values, denominators: Values) -> MetricValue:
    """How much more one system has than another, of sums by user [U], with its paired interval."""
    value = ratio_of_sums(ours - others, denominators)
    return MetricValue(value, *paired_bootstrap_interval(ours, others, denominators))


def simulated_world(directory: Path, config: SimulationConfig, num_moments: int) -> World:
    """Simulates a platform and trains retrieval alone, cheaply, for one release's candidates."""
    logs, registry = directory / "logs", directory / "registry"
    simulate(config, logs)
    network = RetrievalNetworkConfig(tied=True, dropout=0.2)
    run = RunConfig(
        rank=False,
        examples=ExamplesConfig(user_features=("region", "device")),
        retrieval=RetrievalConfig(num_epochs=4, network=network),
    )
    bench = Bench.prepare(logs, registry, train(logs, registry, run).version)
    oracle = Oracle.open(logs, bench.logs, bench.recommender, bench.users)
    assert oracle is not None
    parts = examples_of(bench.recommender.encoder, bench.logs, bench.split)
    choices = choices_of(bench, oracle, parts[2], num_moments)
    pages = np.repeat(np.arange(parts[2].num_requests), np.diff(parts[2].starts))
    return world_of("simulator", bench.recommender.encoder, parts, pages, choices)


def kuairand_world(directory: Path) -> World:
    """The excerpt of KuaiRand; a page is what one user was shown in one day of China's.

    The excerpt keeps no page whole: nearly every impression stands alone at its millisecond. So a
    watched impression is compared with the unwatched ones of the same user and day.
    """
    logs = load_public("kuairand", directory)
    split = split_by_time(logs, validation_days=KUAIRAND_DAYS, test_days=KUAIRAND_DAYS)
    encoder = build_encoder(split.train, ExamplesConfig())
    parts = examples_of(encoder, logs, split)
    test = parts[2]
    days = (test.at_ms + MS_TO_CHINA) // MS_PER_DAY
    keys = np.stack([test.user_rows, days], axis=1)
    page_of_request = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    pages = np.repeat(page_of_request, np.diff(test.starts))
    return world_of("KuaiRand", encoder, parts, pages, None)


def examples_of(
    encoder: Encoder, logs: Logs, split: Split
) -> tuple[ImpressionExamples, ImpressionExamples, ImpressionExamples]:
    """Examples of training, validation and test, each with the past as of its own time."""
    users = user_vocabulary(logs)
    history = encoder.history(logs, users)
    train, validation, test = (
        part.impressions for part in (split.train, split.validation, split.test)
    )
    assert train is not None
    assert validation is not None
    assert test is not None
    past = encoder.history(split.train, users)
    return (
        build_impression_examples(encoder, past, users, train).as_known_then(),
        build_impression_examples(encoder, history, users, validation),
        build_impression_examples(encoder, history, users, test),
    )


def choices_of(bench: Bench, oracle: Oracle, test: ImpressionExamples, num_moments: int) -> Choices:
    """The candidates of one release at some moments of the test, and their truth."""
    unasked = np.full(test.num_requests, UNKNOWN_ROW, np.int32)
    moments = WatchTargets(bench.history, test.user_rows, test.at_ms, unasked)
    moments = moments.sample(num_moments, seed=2)
    users, at_ms = moments.user_rows, moments.at_ms
    starts, seen = moments.watched_before()
    excluded = np.split(seen, starts[1:-1])
    candidates = bench.recommender.candidates_of(bench.history, users, at_ms, excluded)
    batches = []
    for start in range(0, len(users), REQUESTS_AT_ONCE):
        part = slice(start, start + REQUESTS_AT_ONCE)
        request_index, places = np.nonzero(candidates[part] >= NUM_RESERVED_ROWS)
        batches.append(
            RankingInputs(
                bench.recommender.encoder,
                bench.history,
                user_rows=users[part],
                at_ms=at_ms[part],
                request_index=request_index,
                item_rows=candidates[part][request_index, places],
                position=np.zeros(len(places), np.float32),
            )
        )
    true_s = oracle.expected_watch_time_s(users, at_ms, candidates)
    return Choices(users, candidates, true_s, tuple(batches))


def world_of(
    name: str,
    encoder: Encoder,
    parts: tuple[ImpressionExamples, ImpressionExamples, ImpressionExamples],
    pages: NDArray[np.int64],
    choices: Choices | None,
) -> World:
    """Encodes the test's impressions once, for all rankers."""
    train, validation, test = parts
    batches = tuple(
        test.inputs(encoder, np.arange(start, min(start + REQUESTS_AT_ONCE, test.num_requests)))[0]
        for start in range(0, test.num_requests, REQUESTS_AT_ONCE)
    )
    user_rows = np.repeat(test.user_rows, np.diff(test.starts))
    shown = ShownImpressions(
        user_rows=user_rows,
        request_ids=pages,
        watched=test.watched,
        watch_time_s=test.watch_time_s,
    )
    slices = slices_of(user_rows, train, batches)
    return World(name, encoder, train, validation, batches, shown, slices, choices)


def slices_of(
    user_rows: NDArray[np.int64], train: ImpressionExamples, batches: tuple[RankingInputs, ...]
) -> Mapping[str, Flags]:
    """Parts of the test's impressions [M] on which a network might be better than another."""
    num_watches = np.bincount(train.history.watches.user_rows(), minlength=user_rows.max() + 1)
    third = np.quantile(num_watches[np.unique(user_rows)], [1 / 3, 2 / 3])
    before = np.concatenate([watched_before(raw) for raw in batches])
    age_days = np.concatenate([raw.item_age_days for raw in batches])
    known = np.concatenate([raw.item_rows > UNKNOWN_ROW for raw in batches])
    return {
        "all": np.ones(len(user_rows), bool),
        f"users with over {third[1]:.0f} watches": num_watches[user_rows] > third[1],
        f"users with at most {third[0]:.0f} watches": num_watches[user_rows] <= third[0],
        "items watched before": before,
        f"known items younger than {FRESH_DAYS:g} days": known & (age_days < FRESH_DAYS),
        "unknown items": ~known,
    }


def watched_before(raw: RankingInputs) -> Flags:
    """[M] whether a candidate is among the last watches of its user."""
    same = raw.history_rows[raw.request_index] == raw.item_rows[:, None]
    is_so: Flags = same.any(axis=1) & (raw.item_rows > UNKNOWN_ROW)
    return is_so


def summary(world: World) -> str:
    """A line of what is learned from and measured on."""
    shown = world.shown
    return (
        f"{world.name}: {len(world.train.item_rows):,} impressions to learn from "
        f"({world.train.watched.mean():.1%} watched, {world.mean_watch_s:.0f} s a watch), "
        f"{len(shown.watched):,} of {len(np.unique(shown.user_rows)):,} users on "
        f"{len(np.unique(shown.request_ids)):,} pages to be measured on"
    )
