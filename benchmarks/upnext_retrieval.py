"""upnext's retrieval on the common task, at the sizes of its rivals or by a run.toml.

`--inputs average` is the paper's network, as the rivals have it: one average of the last 50 watches
through the tower. `--inputs recent`, what upnext comes with, averages the last 1 and the last 5 as
well and adds a linear path. With `--config` encoder and trainer are those of that file, and a line
is printed after every epoch: seconds so far, validation included, and Recall@50 on validation.

    python -m benchmarks.upnext_retrieval TASK.npz [--inputs average | --config run.toml]
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl
from benchmarks.rivals.entry import Stopwatch, arguments, read_settings, report
from benchmarks.rivals.task import EVENTS_HELD_OUT, Part, Settings, Task, quality, read_task

from upnext import RunConfig, read_config
from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import History
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import WatchTargets, watch_targets
from upnext.logs.split import split_last_event
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.retrieval.train import train_retrieval
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import ITEM_COLUMNS, KIND_DTYPES, NUM_RESERVED_ROWS, Items, Logs, Watches
from upnext.training.logbook import Epoch

Inputs = Literal["recent", "average"]

LEARNING_RATE = 0.01
"""The best on validation of .004 and .01, on a quarter of the users and in four epochs."""


def matched(settings: Settings, inputs: Inputs) -> RunConfig:
    """The settings that the rivals share, in upnext's words."""
    network = RetrievalNetworkConfig(
        vector_size=settings.vector_size,
        embedding_size=settings.vector_size,
        hidden_sizes=settings.hidden_sizes,
        linear_path=inputs == "recent",
        example_age="none",
    )
    retrieval = RetrievalConfig(
        network=network,
        examples_per_user=0,
        sampler="uniform",
        num_negatives=settings.num_negatives,
        batch_size=settings.batch_size,
        num_epochs=settings.num_epochs,
        learning_rate=settings.learning_rate or LEARNING_RATE,
        seed=settings.seed,
    )
    recent = (1, 5) if inputs == "recent" else ()
    examples = ExamplesConfig(num_watches=settings.num_watches, recent_watches=recent)
    return RunConfig(examples=examples, retrieval=retrieval)


def to_logs(task: Task) -> Logs:
    """The task's watches as upnext's tables; of the items nothing but their rows is known."""
    watches = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(task.num_users), np.diff(task.starts)),
            "item_id": task.item_rows.astype(np.int64),
            "started_at_ms": task.at_ms,
            "watch_time_s": np.ones(len(task.item_rows), np.float32),
        }
    )
    dtypes = {name: KIND_DTYPES[column.kind][0] for name, column in ITEM_COLUMNS.items()}
    items = pl.DataFrame({"item_id": np.arange(1, task.num_items + 1)}).with_columns(
        pl.lit(None, dtype=dtype).alias(name) for name, dtype in dtypes.items() if name != "item_id"
    )
    return Logs(watches=Watches(watches), items=Items(items))


@dataclass(frozen=True)
class Encoded:
    """The task as upnext's trainer takes it: `train` ends before validation, `history` never."""

    task: Task
    encoder: Encoder
    users: Vocabulary
    train: History
    history: History
    validation: WatchTargets

    @classmethod
    def of(cls, task: Task, config: ExamplesConfig) -> "Encoded":
        """Splits, counts and encodes."""
        logs = to_logs(task)
        split = split_last_event(logs)
        encoder, users = build_encoder(split.train, config), user_vocabulary(logs)
        train, history = encoder.history(split.train, users), encoder.history(logs, users)
        validation = watch_targets(encoder, history, users, split.validation.watches)
        return cls(task, encoder, users, train, history, validation)

    def quality_of(self, trained: TrainedRetrieval, part: Part) -> dict[str, float]:
        """As every contestant is measured; an item that training never saw scores −∞."""
        events = self.task.held_out_events(part)
        user_rows = self.users.rows(pl.Series(np.arange(self.task.num_users)))
        item_rows = self.encoder.catalogue.items.rows(pl.Series(np.arange(self.task.num_items + 1)))
        queries = trained.query_encoder.queries(self.history, user_rows, self.task.at_ms[events])
        user_vectors = trained.user_vectors(self.history, queries)
        bias = np.where(item_rows < NUM_RESERVED_ROWS, -np.inf, 0).astype(np.float32)
        return quality(
            np.column_stack([user_vectors, np.ones(len(events), np.float32)]),
            np.column_stack([trained.item_vectors()[item_rows], bias]),
            self.task.item_rows[events],
        )


def train(
    name: str, task: Task, settings: Settings, config: RunConfig, *, tell_epochs: bool
) -> None:
    """Trains, ranks and reports; `tell_epochs` validates after each epoch and prints a line."""
    encoded, watch = Encoded.of(task, config.examples), Stopwatch()
    validation = encoded.validation if tell_epochs else None

    def on_epoch(epoch: Epoch) -> None:
        watch.stop()
        if tell_epochs:
            print(json.dumps({"training_s": watch.total_s, **epoch.metrics}), flush=True)
        watch.start()

    per_user = np.diff(task.starts) - EVENTS_HELD_OUT
    num_examples = np.minimum(per_user, config.retrieval.examples_per_user or per_user).sum()
    watch.start()
    trained = train_retrieval(
        encoded.encoder,
        encoded.train,
        validation,
        replace(config.retrieval, num_validation_events=task.num_users),
        mask_watched=False,
        on_epoch=on_epoch,
    )
    report(
        name,
        settings,
        speed=watch.speed(int(num_examples)),
        training_s=watch.total_s,
        measured=encoded.quality_of(trained, settings.part),
        learning_rate=config.retrieval.learning_rate,
    )


if __name__ == "__main__":
    parser = arguments("upnext", Settings)
    parser.add_argument("--inputs", choices=get_args(Inputs), default="recent")
    parser.add_argument("--config", type=Path, help="a run.toml; tells every epoch")
    given = parser.parse_args()
    settings = read_settings(given, Settings)
    config = read_config(given.config, RunConfig) if given.config else None
    train(
        "upnext" if given.inputs == "recent" else "upnext_average",
        read_task(given.task),
        settings,
        config or matched(settings, given.inputs),
        tell_epochs=config is not None,
    )
