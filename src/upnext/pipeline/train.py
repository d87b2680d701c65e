"""One training day, top to bottom: logs → clean tables → examples → both stages → release."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from upnext.config import config_to_table
from upnext.examples.encoder import Encoder, build_encoder, user_vocabulary
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import watch_targets
from upnext.index import build_index
from upnext.logs.read import read_logs
from upnext.logs.split import Split, split_by_time, split_last_event
from upnext.pipeline.config import RunConfig, SplitConfig
from upnext.pipeline.releasing import Learned, publish_release
from upnext.pipeline.unshown import examples_without_impressions
from upnext.ranking.train import train_ranking
from upnext.registry.release import Release
from upnext.retrieval.train import train_retrieval
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import NUM_RESERVED_ROWS, Logs
from upnext.training.checkpoint import digest, remove_checkpoints
from upnext.training.logbook import Logbook, Progress

Say = Callable[[str], None]


def train(
    logs_directory: Path,
    registry: Path,
    config: RunConfig,
    *,
    say: Say = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Release:
    """Reads and checks logs, trains both stages and publishes the release that they make.

    Curves lie in REGISTRY/training, and until the release is published checkpoints too: the same
    call after a crash goes on from the newest one.

    Args:
        say: told about each step, a line at a time.
        on_progress: told about once a second where a stage stands.

    Raises:
        DataError: the logs cannot be used, or a part of the split would be empty.
    """
    logs, report = read_logs(logs_directory, config.logs)
    say(report.to_text())
    split = split_logs(logs, config.split)
    users = user_vocabulary(logs)
    run = registry / "training" / digest(config_to_table(config), report.to_dict())
    logbook = Logbook(directory=run / "chosen", on_progress=on_progress, say=say)
    learned = _learn(split.train, split.validation, logs, users, config, say, logbook)
    epochs = learned.facts()
    if config.refit:
        say("refit: both stages anew, on training and validation together")
        both, again = split.train_and_validation, replace(logbook, directory=run / "refit")
        learned = _learn(both, None, logs, users, config, say, again, chosen=learned)
    facts = {
        "data": report.to_dict(),
        "train_until": _last_watch(split.train_and_validation if config.refit else split.train),
        "history_until": _last_watch(logs),
        "has_impressions": logs.impressions is not None,
        "num_items": learned.encoder.catalogue.num_rows - NUM_RESERVED_ROWS,
        "index_recall_at_100": learned.index.recall_at_100,
        "training": run.name,
        **epochs,
    }
    release = publish_release(
        registry,
        learned,
        config=config,
        users=users,
        history=learned.encoder.history(logs, users),
        facts=facts,
    )
    remove_checkpoints(run)
    say(f"release {release.version}: {release.path}")
    return release


def _learn(
    train: Logs,
    validation: Logs | None,
    logs: Logs,
    users: Vocabulary,
    config: RunConfig,
    say: Say,
    logbook: Logbook,
    *,
    chosen: Learned | None = None,
) -> Learned:
    """Counts, both stages and the index; `logs` is everything, of which targets see their past.

    `chosen`: what validation found best, whose numbers of epochs are taken over.
    """
    encoder = build_encoder(train, config.examples)
    train_history, history = encoder.history(train, users), encoder.history(logs, users)
    targets = None
    if validation is not None:
        targets = watch_targets(encoder, history, users, validation.watches)
        if config.evaluation.mask_watched:
            targets = targets.first_watches()
    num_items = encoder.catalogue.num_rows - NUM_RESERVED_ROWS
    say(f"retrieval: {num_items:,} items, {len(train_history.watches.rows):,} watches")
    retrieval = train_retrieval(
        encoder,
        train_history,
        targets,
        config.retrieval,
        mask_watched=config.evaluation.mask_watched,
        stop_after=chosen.retrieval.best_epoch + 1 if chosen else None,
        on_epoch=lambda epoch: say(epoch.to_text("retrieval")),
        logbook=logbook,
    )
    index = build_index(
        retrieval.item_vectors(),
        config.index,
        user_vectors=retrieval.typical_user_vectors(train_history),
    )
    ranking = None
    if config.rank:
        shown = _shown(encoder, users, train, validation, train_history, history, retrieval, config)
        say(f"ranking: {len(shown[0].item_rows):,} impressions, {shown[0].num_requests:,} requests")
        ranking = train_ranking(
            encoder,
            *shown,
            config.ranking,
            stop_after=chosen.ranking.best_epoch + 1 if chosen and chosen.ranking else None,
            on_epoch=lambda epoch: say(epoch.to_text("ranking")),
            logbook=logbook,
        )
    return Learned(encoder=encoder, retrieval=retrieval, index=index, ranking=ranking)


def _shown(
    encoder: Encoder,
    users: Vocabulary,
    train: Logs,
    validation: Logs | None,
    train_history: History,
    history: History,
    retrieval: TrainedRetrieval,
    config: RunConfig,
) -> tuple[ImpressionExamples, ImpressionExamples | None]:
    """Impressions to learn from and to choose by; made up where the logs have none."""
    if train.impressions is None:
        return examples_without_impressions(
            encoder,
            train_history,
            retrieval,
            config.retrieval,
            num_candidates=config.recommender.num_candidates,
            seed=config.ranking.seed,
        )
    examples = build_impression_examples(encoder, train_history, users, train.impressions)
    if validation is None or validation.impressions is None:
        return examples, None
    return examples, build_impression_examples(encoder, history, users, validation.impressions)


def split_logs(logs: Logs, config: SplitConfig) -> Split:
    """The split that a config names."""
    match config.protocol:
        case "time":
            return split_by_time(
                logs,
                validation_days=config.validation_days,
                test_days=config.test_days,
                train_days=config.train_days,
            )
        case "last-event":
            return split_last_event(logs)


def _last_watch(logs: Logs) -> str:
    last_ms = int(logs.watches.frame["started_at_ms"].to_numpy().max())
    return datetime.fromtimestamp(last_ms / 1000, UTC).isoformat()
