"""RecBole's SASRec with its full softmax, by its own trainer: how good after how many seconds?

Two layers, two heads, 64-d, dropout .5, learning rate .001, batches of 2,048: its defaults, over
the last 50 watches. It makes an example of every watch, with its whole window. After each tenth of
the time given, all items are ranked for each user's validation watch; that time is not counted.

Used: Python 3.11; recbole 1.2.1, torch 2.13.0, numpy 1.26.4, pandas 2.3.3, ray 2.6.3 (it does not
import without), setuptools 80.10.2 (ray needs its pkg_resources).

    PYTHON -m benchmarks.rivals.recbole TASK.npz --minutes 8
"""

import json
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.rivals.entry import Stopwatch, arguments, read_settings, report
from benchmarks.rivals.task import Part, Rows, Settings, Task, quality, read_task
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.utils import get_trainer, init_seed

DATA_SET = "task"
NUM_POINTS = 10
BATCH_SIZE, LEARNING_RATE = 2_048, 0.001
RANKED_AT_ONCE = 1_024


def configure(settings: Settings, folder: Path) -> Any:
    """Its configuration: all but the data is what it comes with."""
    values = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": settings.num_watches,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "train_neg_sample_args": None,
        "loss_type": "CE",
        "hidden_size": settings.vector_size,
        "train_batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "seed": settings.seed,
        "use_gpu": False,
    }
    return Config(model="SASRec", dataset=DATA_SET, config_dict=values)


def write_atomic_file(task: Task, folder: Path) -> None:
    """The watches as a file of its own format; a watch's place stands for its time."""
    directory = folder / DATA_SET
    directory.mkdir(parents=True)
    user_rows = np.repeat(np.arange(task.num_users), np.diff(task.starts))
    columns = np.column_stack([user_rows, task.item_rows, np.arange(len(user_rows))])
    np.savetxt(
        directory / f"{DATA_SET}.inter",
        columns,
        fmt="%d",
        delimiter="\t",
        header="user_id:token\titem_id:token\ttimestamp:float",
        comments="",
    )


def endless(batches: Any) -> Iterator[Any]:
    """One epoch after the other."""
    while True:
        yield from batches


def for_seconds(batches: Iterator[Any], seconds_s: float, taken: list[int]) -> Iterator[Any]:
    """Batches until so much time has passed; their sizes go to `taken`."""
    end_s = time.perf_counter() + seconds_s
    while time.perf_counter() < end_s:
        for batch in islice(batches, 1):
            taken.append(len(batch))
            yield batch


def quality_of(model: Any, row_of: Rows, task: Task, settings: Settings, part: Part) -> Any:
    """As every contestant is measured; `row_of` [N + 1] are RecBole's rows of the items."""
    asked = task.held_out(part, settings.num_watches)
    histories = torch.from_numpy(row_of[asked.history_rows]).long()
    lengths = torch.from_numpy(asked.lengths).long()
    model.eval()
    with torch.inference_mode():
        parts = [torch.split(one, RANKED_AT_ONCE) for one in (histories, lengths)]
        user_vectors = torch.cat([model(*part) for part in zip(*parts, strict=True)]).numpy()
        item_vectors = model.item_embedding.weight.numpy()[row_of]
    return quality(user_vectors, item_vectors, asked.target_rows)


def train(task: Task, settings: Settings, folder: Path, *, minutes: float) -> None:
    """Trains for so long, telling how good it is on the way; then ranks and reports."""
    write_atomic_file(task, folder)
    config = configure(settings, folder)
    init_seed(settings.seed, reproducibility=True)
    dataset = create_dataset(config)
    loader, _, _ = data_preparation(config, dataset)
    model = SASRec(config, loader.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    tokens = [dataset.field2token_id["item_id"][str(row)] for row in range(1, task.num_items + 1)]
    row_of = np.array([0, *tokens], np.int32)
    batches, watch, taken = endless(loader), Stopwatch(), list[int]()
    for point in range(NUM_POINTS):
        watch.start()
        trainer._train_epoch(for_seconds(batches, 60 * minutes / NUM_POINTS, taken), point)
        watch.stop()
        reached = quality_of(model, row_of, task, settings, "validation")
        print(json.dumps({"training_s": watch.total_s, **reached}), flush=True)
    report(
        "recbole_sasrec",
        settings,
        speed={"examples_per_s": sum(taken) / watch.total_s},
        training_s=watch.total_s,
        measured=quality_of(model, row_of, task, settings, settings.part),
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        num_epochs=sum(taken) / len(loader.dataset),
    )


if __name__ == "__main__":
    parser = arguments("recbole", Settings)
    parser.add_argument("--minutes", type=float, default=8.0, help="of training")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        task, settings = read_task(given.task), read_settings(given, Settings)
        train(task, settings, Path(scratch), minutes=given.minutes)
