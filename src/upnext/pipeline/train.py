"""One training day, top to bottom: logs → clean tables → examples → both stages → release."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from upnext.config import config_to_table
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.vocabulary import Vocabulary
from upnext.index import build_index
from upnext.pipeline.alone import alone_in
from upnext.pipeline.config import RunConfig
from upnext.pipeline.learning_logs import LearningData, open_learning_logs
from upnext.pipeline.nominating import (
    counted_sources,
    scored_in_their_time,
    scores_of,
    source_scorer,
)
from upnext.pipeline.releasing import Learned, publish_release
from upnext.pipeline.unshown import examples_without_impressions
from upnext.ranking.train import train_ranking
from upnext.registry.release import Release, refuse_unwritable
from upnext.retrieval.repeats import repeat_bonus_of
from upnext.retrieval.train import train_retrieval
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import NUM_RESERVED_ROWS
from upnext.sources import Sources
from upnext.training.checkpoint import digest, remove_checkpoints
from upnext.training.crew import Crew, this_process
from upnext.training.logbook import Logbook, Progress

Say = Callable[[str], None]


def train(
    logs_directory: Path,
    registry: Path,
    config: RunConfig,
    *,
    say: Say = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    crew: Crew = this_process,
) -> Release:
    """Reads and checks logs, trains both stages and publishes the release that they make.

    `logs_directory` may be one that `prepare` has made of logs too large for memory.

    Curves lie in REGISTRY/training, and until the release is published checkpoints too: the same
    call after a crash goes on from the newest one.

    Args:
        say: told about each step, a line at a time.
        on_progress: told about once a second where a stage stands.
        crew: who trains the stages; all else happens here.

    Raises:
        DataError: the logs cannot be used, a part of the split would be empty, or another process
            is training on these logs with these settings.
        ReleaseError: the registry cannot be written.
    """
    refuse_unwritable(registry)
    logs = open_learning_logs(logs_directory, config, say)
    data = logs.data(config.examples, refit=False)
    run = registry / "training" / digest(config_to_table(config), logs.report)
    run.mkdir(parents=True, exist_ok=True)
    with alone_in(run, doing="training on these logs with these settings"):
        logbook = Logbook(directory=run / "chosen", on_progress=on_progress, say=say)
        learned = _learn(data, logs.users, config, say, logbook, crew)
        epochs = learned.facts()
        if config.refit:
            say("refit: both stages anew, on training and validation together")
            of_both = logs.data(config.examples, refit=True)
            # Epochs and calibration of a ranking without impressions fit no other.
            data = replace(of_both, impressions=data.impressions and of_both.impressions)
            again = replace(logbook, directory=run / "refit")
            learned = _learn(data, logs.users, config, say, again, crew, chosen=learned)
        facts = {"data": logs.report, "training": run.name, **_facts(data, learned), **epochs}
        say("publishing")
        release = publish_release(
            registry,
            learned,
            config=config,
            users=logs.users,
            history=data.history,
            facts=facts,
        )
        remove_checkpoints(run)
        say(f"release {release.version}: {release.path}")
        return release


def _facts(data: LearningData, learned: Learned) -> dict[str, Any]:
    """What a release tells of what it was made of."""
    return {
        "train_until": _last_watch(data.train_history),
        "history_until": _last_watch(data.history),
        "has_impressions": data.impressions is not None,
        "num_items": learned.encoder.catalogue.num_rows - NUM_RESERVED_ROWS,
        "index_recall_at_100": learned.index.recall_at_100,
    }


def _learn(
    data: LearningData,
    users: Vocabulary,
    config: RunConfig,
    say: Say,
    logbook: Logbook,
    crew: Crew,
    *,
    chosen: Learned | None = None,
) -> Learned:
    """Both stages and the index.

    `chosen`: what validation found best, whose numbers of epochs are taken over.
    """
    encoder = data.encoder
    retrieval = _retrieval(data, config, say, logbook, crew, chosen=chosen)
    index = build_index(
        retrieval.item_vectors(),
        config.index,
        user_vectors=retrieval.typical_user_vectors(data.train_history),
    )
    logged, later = _logged(data, users)
    sources = counted_sources(encoder, data.train_history, logged, config.sources)
    ranking = None
    if config.rank:
        shown = _shown(data, logged, later, retrieval, sources, config, say, logbook, crew)
        say(f"ranking: {len(shown[0].item_rows):,} impressions, {shown[0].num_requests:,} requests")
        before = chosen.ranking if chosen else None
        ranking = crew(
            partial(
                train_ranking,
                encoder,
                *shown,
                config.ranking,
                stop_after=before.best_epoch + 1 if before else None,
                calibration=before.calibration if before else None,
            ),
            on_epoch=lambda epoch: say(epoch.to_text("ranking")),
            logbook=logbook,
        )
    return Learned(
        encoder=encoder, retrieval=retrieval, index=index, sources=sources, ranking=ranking
    )


def _retrieval(
    data: LearningData,
    config: RunConfig,
    say: Say,
    logbook: Logbook,
    crew: Crew,
    *,
    chosen: Learned | None,
) -> TrainedRetrieval:
    """Stage 1, and what it is worth that an item was watched before."""
    encoder, targets = data.encoder, data.targets
    if targets is not None and config.evaluation.mask_watched:
        targets = targets.first_watches()
    num_items = encoder.catalogue.num_rows - NUM_RESERVED_ROWS
    say(f"retrieval: {num_items:,} items, {len(data.train_history.watches.rows):,} watches")
    retrieval = crew(
        partial(
            train_retrieval,
            encoder,
            data.train_history,
            targets,
            config.retrieval,
            mask_watched=config.evaluation.mask_watched,
            stop_after=chosen.retrieval.best_epoch + 1 if chosen else None,
        ),
        on_epoch=lambda epoch: say(epoch.to_text("retrieval")),
        logbook=logbook,
    )
    bonus = chosen.retrieval.repeat_bonus if chosen else 0.0
    if data.targets is not None:
        some = data.targets.sample(config.retrieval.num_validation_events, seed=0)
        bonus = repeat_bonus_of(retrieval, some)
        say(f"retrieval: {bonus:+.2f} to the score of what was watched before")
    return replace(retrieval, repeat_bonus=bonus)


def _logged(
    data: LearningData, users: Vocabulary
) -> tuple[ImpressionExamples | None, ImpressionExamples | None]:
    """Logged impressions to learn from and to choose by, as far as there are any."""
    encoder, shown, later = data.encoder, data.impressions, data.validation_impressions
    if shown is None:
        return None, None
    examples = build_impression_examples(encoder, data.train_history, users, shown)
    if later is None:
        return examples, None
    return examples, build_impression_examples(encoder, data.history, users, later)


def _shown(
    data: LearningData,
    logged: ImpressionExamples | None,
    later: ImpressionExamples | None,
    retrieval: TrainedRetrieval,
    sources: Sources,
    config: RunConfig,
    say: Say,
    logbook: Logbook,
    crew: Crew,
) -> tuple[ImpressionExamples, ImpressionExamples | None]:
    """What ranking learns from and chooses by; made up where no impressions were logged."""
    if logged is None:
        return examples_without_impressions(
            data.encoder,
            data.train_history,
            retrieval,
            config.retrieval,
            num_candidates=config.recommender.num_candidates,
            seed=config.ranking.seed,
        )
    if config.ranking.source_parts >= 2:
        logged, later = _scored(data, logged, later, retrieval, sources, config, say, logbook, crew)
    return logged.as_known_then(), later


def _scored(
    data: LearningData,
    train: ImpressionExamples,
    validation: ImpressionExamples | None,
    retrieval: TrainedRetrieval,
    sources: Sources,
    config: RunConfig,
    say: Say,
    logbook: Logbook,
    crew: Crew,
) -> tuple[ImpressionExamples, ImpressionExamples | None]:
    """The same impressions, with what the sources of their time thought of them."""

    def retrain(before: History, part: int) -> TrainedRetrieval:
        say(f"retrieval, for part {part + 1} of ranking: {len(before.watches.rows):,} watches")
        directory = logbook.directory and logbook.directory / f"part-{part + 1}"
        return crew(
            partial(
                train_retrieval,
                data.encoder,
                before,
                None,
                config.retrieval,
                mask_watched=config.evaluation.mask_watched,
                stop_after=retrieval.best_epoch + 1,
            ),
            on_epoch=lambda _: None,
            logbook=replace(logbook, directory=directory),
        )

    train = scored_in_their_time(
        data.encoder, train, retrain, config.sources, num_parts=config.ranking.source_parts
    )
    if validation is None:
        return train, None
    scorer = source_scorer(data.encoder, data.train_history, retrieval, sources)
    scores = scores_of(data.encoder, validation, scorer, retrieval, config.sources)
    return train, replace(validation, source_scores=scores)


def _last_watch(history: History) -> str:
    last_ms = int(history.watches.at_ms.max())
    return datetime.fromtimestamp(last_ms / 1000, UTC).isoformat()
