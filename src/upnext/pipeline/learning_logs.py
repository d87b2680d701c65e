"""What a training day asks of its logs, be they read into memory or prepared on disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import History
from upnext.examples.prepared import PreparedLogs, is_prepared, open_prepared
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import WatchTargets, watch_targets
from upnext.logs.read import read_logs
from upnext.logs.split import Split, split_by_time, split_last_event
from upnext.pipeline.config import RunConfig, SplitConfig
from upnext.pipeline.split_prepared import PreparedSplit, split_prepared
from upnext.schema import Impressions, Logs

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class LearningData:
    """What both stages learn from, and by what they are chosen.

    `history` is that of everything, of which targets see their past. `targets` and
    `validation_impressions` are None where validation is learned from as well. `impressions` are
    None too where there are none in the training part, as where they are logged since lately.
    """

    encoder: Encoder
    train_history: History
    history: History
    targets: WatchTargets | None
    impressions: Impressions | None
    validation_impressions: Impressions | None


class LearningLogs(Protocol):
    """Logs that are split, wherever they lie."""

    @property
    def users(self) -> Vocabulary:
        """Everybody in them."""

    @property
    def report(self) -> Mapping[str, Any]:
        """What their check found, as plain values."""

    def data(self, config: ExamplesConfig, *, refit: bool) -> LearningData:
        """The training part, counted and encoded; with `refit` validation is part of it."""


@dataclass(frozen=True)
class LogsInMemory:
    """Logs as `read_logs` gives them."""

    logs: Logs
    split: Split
    users: Vocabulary
    report: Mapping[str, Any]

    def data(self, config: ExamplesConfig, *, refit: bool) -> LearningData:
        """As `LearningLogs`."""
        train = self.split.train_and_validation if refit else self.split.train
        encoder = build_encoder(train, config)
        history, validation = encoder.history(self.logs, self.users), self.split.validation
        return LearningData(
            encoder=encoder,
            train_history=encoder.history(train, self.users),
            history=history,
            targets=None
            if refit
            else watch_targets(encoder, history, self.users, validation.watches),
            impressions=_if_any(train.impressions),
            validation_impressions=None if refit else validation.impressions,
        )


@dataclass(frozen=True)
class LogsOnDisk:
    """Logs as `prepare` leaves them."""

    prepared: PreparedLogs
    split: PreparedSplit

    @property
    def users(self) -> Vocabulary:
        """Everybody in them."""
        return self.prepared.users

    @property
    def report(self) -> Mapping[str, Any]:
        """What their check found, as plain values."""
        return self.prepared.report

    def data(self, config: ExamplesConfig, *, refit: bool) -> LearningData:
        """As `LearningLogs`."""
        prepared, validation = self.prepared, self.split.validation
        train = self.split.train_and_validation if refit else self.split.train
        encoder = prepared.encoder(train, config)
        history = prepared.history(encoder, prepared.everything)
        return LearningData(
            encoder=encoder,
            train_history=prepared.history(encoder, train),
            history=history,
            targets=None if refit else prepared.targets(history, validation),
            impressions=_if_any(train.others.impressions),
            validation_impressions=None if refit else validation.others.impressions,
        )


def _if_any(impressions: Impressions | None) -> Impressions | None:
    return None if impressions is None or impressions.frame.is_empty() else impressions


def open_learning_logs(directory: Path, config: RunConfig, say: Say) -> LearningLogs:
    """Reads and checks logs, or opens prepared ones, and splits them.

    Raises:
        DataError: the logs cannot be used, or a part of the split would be empty.
    """
    if is_prepared(directory):
        prepared = open_prepared(directory)
        say(f"prepared logs: {len(prepared.places):,} watches")
        return LogsOnDisk(prepared, split_prepared(prepared, config.split))
    logs, report = read_logs(directory, config.logs)
    say(report.to_text())
    split = split_logs(logs, config.split)
    return LogsInMemory(logs, split, user_vocabulary(logs), report.to_dict())


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
