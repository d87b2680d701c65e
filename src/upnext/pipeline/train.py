"""One training day, top to bottom: logs → clean tables → examples → both stages → release."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from upnext.examples.encoder import Encoder, build_encoder, user_vocabulary
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.vocabulary import NUM_RESERVED_ROWS, Vocabulary
from upnext.examples.watches import WatchTargets, watch_targets
from upnext.index import build_index
from upnext.logs.read import read_logs
from upnext.logs.split import Split, split_by_time, split_last_event
from upnext.pipeline.config import RunConfig, SplitConfig
from upnext.pipeline.releasing import Trained, publish_release
from upnext.pipeline.unshown import examples_without_impressions
from upnext.ranking.train import RankingEpoch, TrainedRanking, train_ranking
from upnext.registry.release import Release
from upnext.retrieval.train import RetrievalEpoch, TrainedRetrieval, train_retrieval
from upnext.schema import Floats, Logs

Say = Callable[[str], None]


def train(
    logs_directory: Path, registry: Path, config: RunConfig, *, say: Say = lambda _: None
) -> Release:
    """Reads and checks logs, trains both stages and publishes the release that they make.

    Args:
        say: told about each step, a line at a time.

    Raises:
        DataError: the logs cannot be used, or a part of the split would be empty.
    """
    logs, report = read_logs(logs_directory, config.logs)
    say(report.to_text())
    split = split_logs(logs, config.split)
    encoder = build_encoder(split.train, config.examples)
    users = user_vocabulary(logs)
    history = encoder.history(logs, users)
    train_history = encoder.history(split.train, users)
    validation = watch_targets(encoder, history, users, split.validation.watches)
    num_items = encoder.catalogue.num_rows - NUM_RESERVED_ROWS
    say(f"retrieval: {num_items:,} items, {len(train_history.watches.rows):,} watches")
    retrieval = train_retrieval(
        encoder,
        train_history,
        validation,
        config.retrieval,
        mask_watched=config.evaluation.mask_watched,
        on_epoch=lambda epoch: say(_told_retrieval(epoch)),
    )
    index = build_index(
        retrieval.item_vectors(),
        config.index,
        user_vectors=_typical_user_vectors(retrieval, validation),
    )
    ranking = None
    if config.rank:
        ranking = _rank(encoder, users, train_history, history, split, retrieval, config, say)
    release = publish_release(
        registry,
        Trained(
            config=config,
            encoder=encoder,
            users=users,
            history=history,
            retrieval=retrieval,
            index=index,
            ranking=ranking,
            facts={
                "data": report.to_dict(),
                "train_until": _utc(split.train),
                "history_until": _utc(logs),
                "has_impressions": logs.impressions is not None,
                "num_items": num_items,
                "index_recall_at_100": index.recall_at_100,
                "retrieval_epochs": [_finite(asdict(epoch)) for epoch in retrieval.epochs],
                "ranking_epochs": [_finite(asdict(epoch)) for epoch in ranking.epochs]
                if ranking
                else [],
            },
        ),
    )
    say(f"release {release.version}: {release.path}")
    return release


def split_logs(logs: Logs, config: SplitConfig) -> Split:
    """The split that a config names."""
    match config.protocol:
        case "time":
            return split_by_time(
                logs, validation_days=config.validation_days, test_days=config.test_days
            )
        case "last-event":
            return split_last_event(logs)


def _rank(
    encoder: Encoder,
    users: Vocabulary,
    train_history: History,
    history: History,
    split: Split,
    retrieval: TrainedRetrieval,
    config: RunConfig,
    say: Say,
) -> TrainedRanking:
    examples: ImpressionExamples
    validation: ImpressionExamples | None = None
    if split.train.impressions is not None:
        examples = build_impression_examples(encoder, train_history, users, split.train.impressions)
        if split.validation.impressions is not None:
            validation = build_impression_examples(
                encoder, history, users, split.validation.impressions
            )
    else:
        say("ranking: the logs have no impressions; unwatched candidates stand in for them")
        examples, validation = examples_without_impressions(
            encoder, train_history, retrieval, config.retrieval, seed=config.ranking.seed
        )
    say(f"ranking: {len(examples.item_rows):,} impressions in {examples.num_requests:,} requests")
    return train_ranking(
        encoder,
        examples,
        validation,
        config.ranking,
        on_epoch=lambda epoch: say(_told_ranking(epoch)),
    )


def _typical_user_vectors(retrieval: TrainedRetrieval, targets: WatchTargets) -> Floats:
    sample = targets.sample(1_000, seed=0)
    queries = retrieval.query_encoder.queries(sample.history, sample.user_rows, sample.at_ms)
    return retrieval.user_vectors(sample.history, queries)


def _told_retrieval(epoch: RetrievalEpoch) -> str:
    return (
        f"retrieval epoch {epoch.epoch}: loss {epoch.loss:.4f} nats, "
        f"validation Recall@50 {epoch.validation_recall:.4f}, "
        f"{epoch.examples_per_s:,.0f} examples/s"
    )


def _told_ranking(epoch: RankingEpoch) -> str:
    return (
        f"ranking epoch {epoch.epoch}: loss {epoch.loss:.4f}, "
        f"validation {epoch.validation_loss:.4f}, "
        f"weighted per-user loss {epoch.validation_weighted_per_user_loss:.4f}, "
        f"{epoch.impressions_per_s:,.0f} impressions/s"
    )


def _utc(logs: Logs) -> str:
    last_ms = int(logs.watches.frame["started_at_ms"].to_numpy().max())
    return datetime.fromtimestamp(last_ms / 1000, UTC).isoformat()


def _finite(table: dict[str, Any]) -> dict[str, Any]:
    """Numbers that JSON can hold: what is not known is None, not nan."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in table.items()
    }
