"""DeepMatch's YoutubeDNN with its sampled softmax, trained by Keras.

Histories and watched items share a table; user and item vectors are normalised, temperature .05,
its default. The negatives are shared by the batch and drawn without repeats by TensorFlow's uniform
sampler, the quickest of those that it offers. Its model wants TensorFlow's graph mode, as its own
examples have it. It asks a package registry for its newest release when it is imported, and goes on
without an answer.

Used: Python 3.11; deepmatch 0.3.2, deepctr 0.9.4, tensorflow-cpu 2.15.1, numpy 1.26.4, requests.

    PYTHON -m benchmarks.rivals.deepmatch TASK.npz
"""

from typing import Any

import numpy as np
import tensorflow as tf
from benchmarks.rivals.entry import Stopwatch, arguments, read_settings, report
from benchmarks.rivals.task import Moments, Settings, Task, quality, read_task
from deepctr.feature_column import SparseFeat, VarLenSparseFeat
from deepmatch.models import YoutubeDNN
from deepmatch.utils import NegativeSampler, sampledsoftmaxloss
from tensorflow.keras.models import Model

LEARNING_RATE = 0.001
"""The best on validation of .001, .003 and .01, on a quarter of the users and in four epochs."""


def build_model(num_items: int, settings: Settings) -> Any:
    """Its model: [B, H] histories and their lengths against the watched item."""
    size = settings.vector_size
    item = SparseFeat("item_id", num_items + 1, embedding_dim=size)
    past = SparseFeat("history", num_items + 1, embedding_dim=size, embedding_name="item_id")
    history = VarLenSparseFeat(past, settings.num_watches, "mean", "num_watches")
    sampler = NegativeSampler("uniform", num_sampled=settings.num_negatives, item_name="item_id")
    hidden = (*settings.hidden_sizes, size)
    return YoutubeDNN([history], [item], user_dnn_hidden_units=hidden, sampler_config=sampler)


def inputs(moments: Moments) -> dict[str, Any]:
    """What the model takes."""
    return {
        "history": moments.history_rows,
        "num_watches": moments.lengths,
        "item_id": moments.target_rows,
    }


class EpochTimes(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Times the epochs of a `fit`."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.watch = watch

    def on_epoch_begin(self, *_: Any) -> None:
        """Starts."""
        self.watch.start()

    def on_epoch_end(self, *_: Any) -> None:
        """Stops."""
        self.watch.stop()


def train(task: Task, settings: Settings) -> None:
    """Trains, ranks and reports."""
    tf.compat.v1.disable_eager_execution()
    tf.keras.utils.set_random_seed(settings.seed)
    examples, watch = task.training(settings.num_watches), Stopwatch()
    learning_rate = settings.learning_rate or LEARNING_RATE
    model = build_model(task.num_items, settings)
    model.compile(optimizer=tf.keras.optimizers.legacy.Adam(learning_rate), loss=sampledsoftmaxloss)
    model.fit(
        inputs(examples),
        examples.target_rows,
        batch_size=settings.batch_size,
        epochs=settings.num_epochs,
        verbose=0,
        callbacks=[EpochTimes(watch)],
    )
    asked = task.held_out(settings.part, settings.num_watches)
    users = Model(inputs=model.user_input, outputs=model.user_embedding)
    items = Model(inputs=model.item_input, outputs=model.item_embedding)
    every_row = np.arange(task.num_items + 1)
    user_vectors = users.predict(inputs(asked), batch_size=2**12, verbose=0)
    item_vectors = items.predict(every_row, batch_size=2**12, verbose=0)
    report(
        "deepmatch",
        settings,
        speed=watch.speed(len(examples)),
        training_s=watch.total_s,
        measured=quality(user_vectors, item_vectors, asked.target_rows),
        learning_rate=learning_rate,
    )


if __name__ == "__main__":
    given = arguments("deepmatch", Settings).parse_args()
    train(read_task(given.task), read_settings(given, Settings))
