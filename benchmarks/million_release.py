"""A registry with releases of a million items, to measure serving on, in minutes instead of hours.

    python -m benchmarks.million_release REGISTRY [--num-items 1000000] [--num-users 20000]

Needs what training needs. The logs are `million_world`'s and end now, so that fresh uploads are
fresh. Networks, index, sources and files are made by the code that makes any release, with default
settings, but that 300 candidates are ranked, that tables of items begin near the items' true
tastes, and that one pass over the watches, and over a few thousand pages, suffices for all the
rest. A release answers as one of that size does; how good its answers are, nobody should ask. Each
seed gives a version; `stable` is the first.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from benchmarks.million_world import World, item_ids, million_world

from upnext.examples.encoder import Encoder, build_encoder, now_ms, user_vocabulary
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import QueryEncoder, build_watch_examples
from upnext.index import build_index
from upnext.pipeline.config import RunConfig
from upnext.pipeline.nominating import counted_sources, scores_of, source_scorer
from upnext.pipeline.releasing import Learned, publish_release
from upnext.ranking.config import RankingConfig
from upnext.ranking.train import TrainedRanking, train_ranking
from upnext.recommender import RecommenderConfig
from upnext.registry.moves import move_label
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import InputSizes, RetrievalModel
from upnext.retrieval.step import RetrievalTask
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import MS_PER_HOUR, NUM_RESERVED_ROWS, Floats
from upnext.sources import Sources
from upnext.training.loop import fit
from upnext.training.schedule import LearningRate
from upnext.training.task import Plan

NUM_PAGES_LEARNED, NUM_PAGES_VALIDATED = 4_000, 1_000
TASTE_SCALE = 0.5
"""Of the tastes in the first item vectors, beside the usual random start."""
EXAMPLES_PER_USER = 25
NUM_FOUND = 150
"""Items that retrieval finds: with the 150 that counts propose, 300 candidates are ranked."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What all versions share."""

    encoder: Encoder
    users: Vocabulary
    history: History
    examples: ImpressionExamples
    sources: Sources
    tastes: Floats


def main() -> None:
    """Publishes one version a seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--num-items", type=int, default=1_000_000)
    parser.add_argument("--num-users", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    began = time.perf_counter()

    def say(told: str) -> None:
        most_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        elapsed_s = time.perf_counter() - began
        print(f"{elapsed_s:6.1f} s {most_gib:4.1f} GiB  {told}", file=sys.stderr, flush=True)

    versions = publish_versions(
        arguments.registry, arguments.num_items, arguments.num_users, arguments.seeds, say=say
    )
    move_label(arguments.registry, "stable", versions[0], reason="the first")
    say(f"stable = {versions[0]}")


def publish_versions(
    registry: Path, num_items: int, num_users: int, seeds: Sequence[int], *, say: Say
) -> list[int]:
    """Publishes a version for each seed, on the same logs."""
    end_ms = now_ms() // MS_PER_HOUR * MS_PER_HOUR
    world = million_world(num_items, num_users, end_ms=end_ms, seed=7)
    say(f"{world.logs.watches.frame.height:,} watches")
    known = _known(world, say)
    versions = []
    for seed in seeds:
        config = RunConfig(
            retrieval=RetrievalConfig(num_epochs=1, examples_per_user=EXAMPLES_PER_USER, seed=seed),
            ranking=RankingConfig(num_epochs=1, seed=seed),
            recommender=RecommenderConfig(num_candidates=NUM_FOUND),
        )
        learned = _learned(known, config, say)
        facts = {
            "made_by": "benchmarks.million_release",
            "num_items": known.encoder.catalogue.num_rows - NUM_RESERVED_ROWS,
            "has_impressions": True,
            "index_recall_at_100": learned.index.recall_at_100,
            "history_until": datetime.fromtimestamp(end_ms / 1000, UTC).isoformat(),
        }
        release = publish_release(
            registry,
            learned,
            config=config,
            users=known.users,
            history=known.history,
            facts=facts,
        )
        say(f"published {release.path}")
        versions.append(release.version)
    return versions


def _known(world: World, say: Say) -> Known:
    logs, config = world.logs, RunConfig()
    encoder = build_encoder(logs, config.examples)
    users = user_vocabulary(logs)
    history = encoder.history(logs, users)
    say(f"{encoder.catalogue.num_rows:,} rows, {users.num_rows:,} users")
    assert logs.impressions is not None
    examples = build_impression_examples(encoder, history, users, logs.impressions)
    sources = counted_sources(encoder, history, examples, config.sources)
    say(f"sources counted, {len(examples.item_rows):,} impressions")
    rows = encoder.catalogue.items.rows(item_ids(np.arange(len(world.tastes))))
    tastes = np.zeros((encoder.catalogue.num_rows, world.tastes.shape[1]), np.float32)
    tastes[rows] = world.tastes
    tastes[:NUM_RESERVED_ROWS] = 0
    return Known(
        encoder=encoder,
        users=users,
        history=history,
        examples=examples,
        sources=sources,
        tastes=tastes,
    )


def _learned(known: Known, config: RunConfig, say: Say) -> Learned:
    retrieval = _retrieval(known, config.retrieval)
    say(retrieval.epochs[-1].to_text("retrieval"))
    index = build_index(
        retrieval.item_vectors(),
        config.index,
        user_vectors=retrieval.typical_user_vectors(known.history),
    )
    say(f"index: {index.facts}")
    ranking = _ranking(known, retrieval, config)
    say(ranking.epochs[-1].to_text("ranking"))
    return Learned(
        encoder=known.encoder,
        retrieval=retrieval,
        index=index,
        sources=known.sources,
        ranking=ranking,
    )


def _retrieval(known: Known, config: RetrievalConfig) -> TrainedRetrieval:
    """As `train_retrieval` does it, but that the tables of items begin near their tastes."""
    query_encoder, examples = build_watch_examples(
        known.encoder, known.history, completed_share=config.completed_share
    )
    torch.manual_seed(config.seed)
    model = _model(query_encoder, config)
    _begin_near(model, known.tastes, np.random.default_rng(config.seed))
    trained = TrainedRetrieval(model, query_encoder)
    task = RetrievalTask(trained, examples, None, config, mask_watched=True)
    rate = LearningRate(peak=config.learning_rate, schedule=config.learning_rate_schedule)
    fitted = fit(task, Plan(num_epochs=1, patience=config.patience, learning_rate=rate))
    model.eval()
    return replace(trained, epochs=fitted.epochs, best_epoch=fitted.best_epoch)


def _model(query_encoder: QueryEncoder, config: RetrievalConfig) -> RetrievalModel:
    encoder = query_encoder.encoder
    sizes = InputSizes(
        num_items=encoder.catalogue.num_rows,
        num_search_tokens=encoder.search_tokens.num_rows,
        context_sizes=encoder.context_sizes,
        num_context_values=query_encoder.num_context_values,
        watch_windows=encoder.config.watch_windows,
        longest_age_days=60.0,
    )
    is_sparse = encoder.catalogue.num_rows > config.max_dense_items
    return RetrievalModel(config.network, sizes, is_sparse=is_sparse)


def _begin_near(model: RetrievalModel, tastes: Floats, rng: np.random.Generator) -> None:
    """Adds the tastes, turned at random, to both tables of items."""
    for table in (model.watch_table, model.item_table):
        size = table.weight.shape[1]
        turn = np.linalg.qr(rng.standard_normal((size, size)))[0][: tastes.shape[1]]
        turned = (TASTE_SCALE * tastes) @ turn.astype(np.float32)
        with torch.no_grad():
            table.weight.add_(torch.from_numpy(turned))


def _ranking(known: Known, retrieval: TrainedRetrieval, config: RunConfig) -> TrainedRanking:
    """Learned from some pages and calibrated on the last ones."""
    encoder, examples = known.encoder, known.examples
    last = np.arange(examples.num_requests)[-(NUM_PAGES_LEARNED + NUM_PAGES_VALIDATED) :]
    pages = examples.take(last)
    scorer = source_scorer(encoder, known.history, retrieval, known.sources)
    scores = scores_of(encoder, pages, scorer, retrieval, config.sources)
    pages = replace(pages, source_scores=scores)
    learned = pages.take(np.arange(pages.num_requests - NUM_PAGES_VALIDATED))
    validated = pages.take(np.arange(pages.num_requests)[-NUM_PAGES_VALIDATED:])
    return train_ranking(encoder, learned.as_known_then(), validated, config.ranking)


if __name__ == "__main__":
    main()
