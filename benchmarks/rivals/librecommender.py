"""LibRecommender's YouTubeRetrieval with its sampled softmax.

Two tables, an item bias, batch norm (its default), past watches summed and divided by √H. The
negatives are shared by the batch and drawn without repeats by TensorFlow's uniform sampler. It
makes each batch's histories from the users' lists while it trains.

Used: Python 3.11; LibRecommender 1.5.2, tensorflow-cpu 2.15.1, torch 2.13.0 (for its data loader),
numpy 1.26.4, pandas 2.3.3, scikit-learn 1.9.1.

    PYTHON -m benchmarks.rivals.librecommender TASK.npz
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.rivals.entry import Stopwatch, arguments, read_settings, report
from benchmarks.rivals.task import Floats, Settings, Task, quality, read_task
from libreco.algorithms import YouTubeRetrieval
from libreco.data import DatasetPure
from libreco.training import tf_trainer

LEARNING_RATE = 0.003
"""The best on validation of .001, .003 and .01, on a quarter of the users and in four epochs."""


def training_frame(task: Task) -> pd.DataFrame:
    """The watches of the training part as its data set takes them, in order of time by user."""
    learned = task.in_training
    user_rows = np.repeat(np.arange(task.num_users), np.diff(task.starts))
    columns = {"user": user_rows[learned], "item": task.item_rows[learned], "label": 1}
    return pd.DataFrame(columns)


def vectors(model: Any, task: Task, settings: Settings) -> tuple[Floats, Floats]:
    """User vectors [U, D + 1] at the moments asked for, item vectors [N + 1, D + 1] with the bias.

    An item that training never saw scores −∞.
    """
    asked = task.held_out(settings.part, settings.num_watches)
    item_of_row = np.full(task.num_items + 1, -1, np.int64)
    for row, item in model.data_info.item2id.items():
        item_of_row[row] = item
    filled = asked.history_rows > 0
    user_rows, _ = np.nonzero(filled)  # all are known and in order, so the library's rows are ours
    model.recent_seq_indices = np.column_stack([user_rows, np.zeros_like(user_rows)])
    # TensorFlow drops the item −1 from an average, as the library has it for unknown ones.
    model.recent_seq_values = item_of_row[asked.history_rows[filled]]
    model.set_embeddings()
    known = item_of_row >= 0
    item_vectors = np.zeros((task.num_items + 1, settings.vector_size + 1), np.float32)
    item_vectors[known] = model.item_embeds_np[item_of_row[known]]
    item_vectors[~known, -1] = -np.inf
    return model.user_embeds_np, item_vectors


def train(task: Task, settings: Settings) -> None:
    """Trains, ranks and reports."""
    data, info = DatasetPure.build_trainset(training_frame(task))
    learning_rate = settings.learning_rate or LEARNING_RATE
    model = YouTubeRetrieval(
        data_info=info,
        embed_size=settings.vector_size,
        hidden_units=settings.hidden_sizes,
        n_epochs=settings.num_epochs,
        lr=learning_rate,
        batch_size=settings.batch_size,
        num_sampled_per_batch=settings.num_negatives,
        recent_num=settings.num_watches,
        seed=settings.seed,
    )
    watch = Stopwatch()

    @contextmanager
    def timed(*_: Any) -> Iterator[None]:
        watch.start()
        yield
        watch.stop()

    tf_trainer.time_block = timed  # the library prints the seconds of an epoch; here they are kept
    model.fit(data, neg_sampling=True, verbose=0)
    user_vectors, item_vectors = vectors(model, task, settings)
    targets = task.item_rows[task.held_out_events(settings.part)]
    report(
        "librecommender",
        settings,
        speed=watch.speed(len(data.user_indices)),
        training_s=watch.total_s,
        measured=quality(user_vectors, item_vectors, targets),
        learning_rate=learning_rate,
    )


if __name__ == "__main__":
    given = arguments("librecommender", Settings).parse_args()
    train(read_task(given.task), read_settings(given, Settings))
