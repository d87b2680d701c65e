"""torch-rechub's YoutubeDNN, trained by its own MatchTrainer on its own data loader.

Its way with negatives is list-wise: 20 a example, drawn once beforehand by its `negative_sample`
(method 1, count ** 0.75), one softmax over the 21. Histories and watched items share a table, both
vectors are normalised, and the temperature .02 is that of its example script, as is the order of
its tower: linear, batch norm, ReLU. Its `generate_seq_feature_match` makes the examples one by one
as Python lists; here they are handed over ready, as arrays, which it takes as well.

Used: Python 3.11; torch-rechub 0.9.0, torch 2.13.0, numpy 2.4.6, pandas 3.1.1, scikit-learn 1.9.1.

    PYTHON -m benchmarks.rivals.torch_rechub TASK.npz
"""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from benchmarks.rivals.entry import Stopwatch, arguments, read_settings, report
from benchmarks.rivals.task import Moments, Settings, Task, quality, read_task
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import YoutubeDNN
from torch_rechub.trainers import MatchTrainer
from torch_rechub.utils.data import MatchDataGenerator
from torch_rechub.utils.match import negative_sample

NUM_NEGATIVES = 20
TEMPERATURE = 0.02
LEARNING_RATE = 0.003
"""The best on validation of .001, .003 and .01, on a quarter of the users and in four epochs."""
BY_COUNT_TO_THE_3_4TH = 1
LIST_WISE = 2


def build_model(num_items: int, settings: Settings) -> Any:
    """Its model, with the watched item's table shared by the history and the negatives."""
    table = {"vocab_size": num_items + 1, "embed_dim": settings.vector_size}
    shared = table | {"shared_with": "item_id"}
    history = SequenceFeature("history", pooling="mean", padding_idx=0, **shared)
    negatives = SequenceFeature("neg_items", pooling="concat", **shared)
    tower = {"dims": [*settings.hidden_sizes, settings.vector_size], "activation": "relu"}
    item = SparseFeature("item_id", padding_idx=0, **table)
    return YoutubeDNN([history], [item], [negatives], tower, temperature=TEMPERATURE)


def inputs(task: Task, examples: Moments) -> dict[str, Any]:
    """What its data loader takes: an array a feature, with the negatives of every example."""
    counts = task.num_times_watched()
    by_count = np.argsort(-counts[1:], kind="stable") + 1
    popularity = OrderedDict((row, counts[row]) for row in by_count.tolist())
    drawn = negative_sample(popularity, len(examples) * NUM_NEGATIVES, BY_COUNT_TO_THE_3_4TH)
    return {
        "history": examples.history_rows,
        "item_id": examples.target_rows,
        "neg_items": drawn.astype(np.int32).reshape(len(examples), NUM_NEGATIVES),
    }


def train(task: Task, settings: Settings) -> None:
    """Trains, ranks and reports."""
    np.random.seed(settings.seed)
    torch.manual_seed(settings.seed)
    examples = task.training(settings.num_watches)
    learning_rate = settings.learning_rate or LEARNING_RATE
    model = build_model(task.num_items, settings)
    trainer = MatchTrainer(model, mode=LIST_WISE, optimizer_params={"lr": learning_rate})
    x = inputs(task, examples)
    loader, _, _ = MatchDataGenerator(x, np.zeros(len(examples))).generate_dataloader(
        x, x, batch_size=settings.batch_size, num_workers=0
    )
    watch = Stopwatch()
    for _ in range(settings.num_epochs):
        watch.start()
        trainer.train_one_epoch(loader)
        watch.stop()
    asked = task.held_out(settings.part, settings.num_watches)
    model.eval()
    with torch.inference_mode():
        model.mode = "user"
        user_vectors = model({"history": torch.from_numpy(asked.history_rows)}).numpy()
        model.mode = "item"
        every_row = torch.arange(task.num_items + 1)
        item_vectors = model({"item_id": every_row}).numpy()
    report(
        "torch_rechub",
        settings,
        speed=watch.speed(len(examples)),
        training_s=watch.total_s,
        measured=quality(user_vectors, item_vectors, asked.target_rows),
        num_negatives=NUM_NEGATIVES,
        learning_rate=learning_rate,
    )


if __name__ == "__main__":
    given = arguments("torch_rechub", Settings).parse_args()
    train(read_task(given.task), read_settings(given, Settings))
