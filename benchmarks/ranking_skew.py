"""Is what serves what was trained? Replays logged requests through the serving path.

    python benchmarks/ranking_skew.py LOGS REGISTRY [--config run.toml] [--num-requests 10000]

Trains on LOGS and publishes into REGISTRY. Then the release is opened as a server opens it and
asked what users asked in the training days, one request at a time: once for a page, and once for
the very impressions that were shown. What its ranking is told is held against what training made of
the training logs alone, array by array and bit by bit; what it answers, against the torch network
that training left in memory.

Retrieval and its scores are the one exception. Training scored an impression by a retrieval that
had not seen it, the release by its last one, so these inputs cannot be equal. What can is measured:
the release's scorer beside that of training, both with the last retrieval.
"""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

import upnext.pipeline.train
from upnext.config import read_config
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.ranking_inputs import (
    CANDIDATE_INPUTS,
    RANKING_INPUTS,
    REQUEST_INPUTS,
    RankingInputs,
)
from upnext.logs.read import read_logs
from upnext.pipeline.config import RunConfig
from upnext.pipeline.learning_logs import split_logs
from upnext.pipeline.nominating import scores_of, source_scorer
from upnext.pipeline.releasing import Learned, publish_release
from upnext.recommender import Recommender
from upnext.recommender.ranker import Ranker
from upnext.schema import Floats, RecommendationRequest
from upnext.sources.scores import SOURCE_FEATURES

LEVELS = (0.5, 0.99, 0.999, 1.0)
OF_SOURCES = "source_scores"
ALWAYS = tuple(name for name in RANKING_INPUTS if name != OF_SOURCES)


@dataclass(frozen=True)
class Listening(Ranker):
    """A release's ranker that keeps the inputs it was last given."""

    heard: list[RankingInputs] = field(default_factory=list)

    def seconds_of(self, raw: Any) -> Floats:
        """As ever."""
        self.heard[:] = [raw]
        return super().seconds_of(raw)


@dataclass
class Tally:
    """Of one input: values compared, and those of which any bit differs."""

    num_requests: int = 0
    num_values: int = 0
    num_different: int = 0

    def add(self, served: NDArray[Any], trained: NDArray[Any]) -> None:
        """Counts one request's arrays."""
        assert served.dtype == trained.dtype
        assert served.shape == trained.shape
        size = served.itemsize
        bytes_of = [np.ascontiguousarray(one).view(np.uint8) for one in (served, trained)]
        differ = (bytes_of[0] != bytes_of[1]).reshape(-1, size).any(axis=1)
        self.num_requests += 1
        self.num_values += served.size
        self.num_different += int(differ.sum())


@dataclass
class Replay:
    """What came of it: tallies by input for pages and for impressions, and seconds."""

    pages: dict[str, Tally] = field(default_factory=lambda: {name: Tally() for name in ALWAYS})
    shown: dict[str, Tally] = field(default_factory=lambda: {name: Tally() for name in ALWAYS})
    served_s: list[Floats] = field(default_factory=list)
    trained_s: list[Floats] = field(default_factory=list)
    told_by_training_s: list[Floats] = field(default_factory=list)
    served_scores: list[Floats] = field(default_factory=list)
    trained_scores: list[Floats] = field(default_factory=list)


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("logs", type=Path)
    parser.add_argument("registry", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--num-requests", type=int, default=10_000)
    arguments = parser.parse_args()
    config = RunConfig() if arguments.config is None else read_config(arguments.config, RunConfig)
    learned, version = trained(arguments.logs, arguments.registry, config)
    recommender = Recommender.open(arguments.registry, version)
    examples = scored_examples(arguments.logs, config, learned, recommender)
    replay = Replay()
    for request in sample_of(examples, arguments.num_requests):
        replay_one(replay, recommender, learned, examples, int(request))
    print_inputs(replay)
    print_seconds(replay)
    print_sources(replay)


def trained(logs: Path, registry: Path, config: RunConfig) -> tuple[Learned, int]:
    """What training left in memory, and the release that it published of it."""
    published: list[Learned] = []

    def keep_and_publish(registry: Path, learned: Learned, **about: Any) -> Any:
        published.append(learned)
        return publish_release(registry, learned, **about)

    with mock.patch.object(upnext.pipeline.train, "publish_release", keep_and_publish):
        release = upnext.pipeline.train.train(logs, registry, config, say=print)
    torch.set_flush_denormal(False)  # which training sets, and a server does not
    return published[0], release.version


def scored_examples(
    directory: Path, config: RunConfig, learned: Learned, recommender: Recommender
) -> ImpressionExamples:
    """The training impressions as training encodes them, of the training logs alone.

    The sources' scores are those of the last retrieval, and not what was trained with.
    """
    logs, encoder = read_logs(directory, config.logs)[0], learned.encoder
    split = split_logs(logs, config.split)
    part = split.train_and_validation if config.refit else split.train
    assert part.impressions is not None
    history = encoder.history(part, recommender.users)
    examples = build_impression_examples(encoder, history, recommender.users, part.impressions)
    scorer = source_scorer(encoder, history, learned.retrieval, learned.sources)
    scores = scores_of(encoder, examples, scorer, learned.retrieval, config.sources)
    return replace(examples, source_scores=scores)


def sample_of(examples: ImpressionExamples, num_requests: int) -> NDArray[np.int64]:
    """Requests, drawn once from all training days."""
    count = min(num_requests, examples.num_requests)
    return np.sort(np.random.default_rng(0).choice(examples.num_requests, count, replace=False))


def replay_one(
    replay: Replay,
    recommender: Recommender,
    learned: Learned,
    examples: ImpressionExamples,
    request: int,
) -> None:
    """Asks for a page at the time of a logged request, then for what was really shown."""
    assert recommender.ranker is not None
    ranker = recommender.ranker
    listening = Listening(ranker.features, ranker.item_vectors, ranker.network)
    serving = replace(recommender, ranker=listening)
    expected, chosen = examples.inputs(learned.encoder, np.array([request]))
    user_row, at_ms = int(examples.user_rows[request]), int(examples.at_ms[request])
    serving.recommend(
        RecommendationRequest(
            user_id=recommender.users.id(user_row), at_ms=at_ms, exclude_watched=False
        )
    )
    compare_page(replay.pages, listening.heard[0], expected)
    seconds = serving.expected_watch_time_s(
        recommender.history,
        np.array([user_row]),
        np.array([at_ms], np.int64),
        np.zeros(len(chosen), np.int64),
        examples.item_rows[chosen],
        position=examples.position[chosen],
    )
    served = listening.heard[0]
    for name, tally in replay.shown.items():
        tally.add(served[name], expected[name])
    replay.served_s.append(seconds)
    replay.trained_s.append(in_memory(learned, served))
    replay.told_by_training_s.append(in_memory(learned, expected))
    replay.served_scores.append(served.source_scores)
    replay.trained_scores.append(expected.source_scores)


def compare_page(tallies: dict[str, Tally], served: RankingInputs, expected: RankingInputs) -> None:
    """All that is told of the request, and of the shown items that are candidates as well.

    Serving tells every candidate that it stands first, and candidates of one request its index.
    """
    for name in REQUEST_INPUTS:
        tallies[name].add(served[name], expected[name])
    _, in_served, in_shown = np.intersect1d(
        served.item_rows, expected.item_rows, return_indices=True
    )
    if len(in_served):
        for name in CANDIDATE_INPUTS:
            if name in tallies and name != "position":
                tallies[name].add(served[name][in_served], expected[name][in_shown])


def in_memory(learned: Learned, raw: RankingInputs) -> Floats:
    """Seconds by the torch network, in float32."""
    assert learned.ranking is not None
    with torch.inference_mode():
        seconds: Floats = learned.ranking.model(raw).numpy()
    return seconds


def print_inputs(replay: Replay) -> None:
    """A line an input."""
    print("\n| input | pages | values | differ | shown | values | differ |")
    print("|---|---|---|---|---|---|---|")
    for name in ALWAYS:
        cells = [
            f"{number:,}"
            for tally in (replay.pages[name], replay.shown[name])
            for number in (tally.num_requests, tally.num_values, tally.num_different)
        ]
        print(f"| `{name}` | {' | '.join(cells)} |")


def print_seconds(replay: Replay) -> None:
    """Relative differences of expected watch times."""
    served = np.concatenate(replay.served_s)
    print(f"\n{len(served):,} impressions, of {served.min():.3g} to {served.max():.3g} s\n")
    print("| seconds, relative difference | p50 | p99 | p99.9 | max |")
    print("|---|---|---|---|---|")
    for name, others in (
        ("ONNX one by one, torch of the same inputs", replay.trained_s),
        ("… torch of the inputs of training, last retrieval", replay.told_by_training_s),
    ):
        other = np.concatenate(others)
        print(f"| {name} | {quantiles(np.abs(served - other) / np.abs(other))} |")


def print_sources(replay: Replay) -> None:
    """What the release and training make of the sources' scores, by the same retrieval."""
    served, trained = np.concatenate(replay.served_scores), np.concatenate(replay.trained_scores)
    print("\n| source score, difference | bits differ | p50 | p99 | p99.9 | max |")
    print("|---|---|---|---|---|---|")
    for name, one, other in zip(SOURCE_FEATURES, served.T, trained.T, strict=True):
        share = (one.copy().view(np.int32) != other.copy().view(np.int32)).mean()
        print(f"| {name} | {share:.2%} | {quantiles(np.abs(one - other))} |")


def quantiles(values: NDArray[Any]) -> str:
    """Those of `LEVELS`, as cells."""
    return " | ".join(f"{value:.1e}" for value in np.quantile(values, LEVELS))


if __name__ == "__main__":
    main()
