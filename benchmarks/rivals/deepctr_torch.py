"""DeepCTR-Torch's plain network and its DIN, trained by their own `fit` on its own data loader.

It has no model that is a plain network, but its WDL without columns for the wide part is one:
embeddings of the item and its channel, means of those of its tags and of past watches, and the
features, all in one vector, then the hidden layers. Its DIN weighs past watches by attention, with
Dice inside, its default. It knows no requests, so that each impression brings its own copy of the
history.

Like upnext it learns the exact weighted logistic regression, as `compile` takes any function as
loss, and has what upnext has: features, tables shared by item and history, vector sizes, Adam, a
bias that starts at the mean watch time, denormal numbers as zeros (without that, its DIN takes
three times as long), no penalty on embeddings. Its layers start as PyTorch starts them: from its
own beginning, normal with .0001, two epochs leave the plain network's AUC at .500. All inputs are
of the one type of its matrix, which spares it a conversion. It asks a package registry for its
newest release when it is imported, and goes on without an answer.

Used: Python 3.11; deepctr-torch 0.3.0 (installed with --no-deps), torch 2.13.0, numpy 2.4.6,
scikit-learn 1.9.1, tqdm 4.70.1, requests.

    PYTHON -m benchmarks.rivals.deepctr_torch TASK --network mlp
"""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from benchmarks.rivals.entry import Stopwatch, arguments, read_settings, report
from benchmarks.rivals.ranking_task import (
    EncodedImpressions,
    Floats,
    Network,
    RankingSettings,
    leave_scores,
    read_impressions,
    read_tables,
)
from deepctr_torch.callbacks import Callback
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DIN, WDL
from torch.nn import functional

LEARNING_RATE = 0.002
"""As upnext's; on validation the plain network's AUC hardly changes from .0005 to .004."""
EMBEDDING_STD = 0.05
"""Of the first embeddings, as upnext's."""


def exact_loss(share: torch.Tensor, watch_time_s: torch.Tensor, reduction: str) -> torch.Tensor:
    """T · log(1 + e^{−z}) + log(1 + e^z), told as the cross entropy of the share e^z / (1 + e^z).

    Args:
        share: [B], as its models give it.
        watch_time_s: [B] T, 0 where unwatched.
    """
    weight = watch_time_s + 1
    return functional.binary_cross_entropy(
        share, watch_time_s / weight, weight=weight, reduction=reduction
    )


def columns(task: Path, impressions: EncodedImpressions) -> list[Any]:
    """Its description of the features; DIN finds the history of a feature by `hist_`."""
    tables = read_tables(task)

    def sparse(name: str, table: str) -> Any:
        rows, size = tables[table].num_rows, tables[table].vector_size
        return SparseFeat(name, rows, embedding_dim=size, embedding_name=table)

    def past(table: str) -> Any:
        num_slots = impressions.history_rows.shape[1]
        return VarLenSparseFeat(sparse(f"hist_{table}", table), num_slots, "mean", "num_watches")

    return [
        sparse("item", "item"),
        sparse("channel", "channel"),
        VarLenSparseFeat(sparse("tags", "tag"), impressions.tag_rows.shape[1], "mean"),
        past("item"),
        past("channel"),
        DenseFeat("features", impressions.features.shape[1]),
    ]


def inputs(impressions: EncodedImpressions) -> dict[str, Floats]:
    """What its models take; rows too are numbers of its one matrix."""
    arrays = {
        "item": impressions.item_rows,
        "channel": impressions.channel_rows,
        "tags": impressions.tag_rows,
        "hist_item": impressions.history_rows,
        "hist_channel": impressions.history_channel_rows,
        "num_watches": impressions.num_watches,
        "features": impressions.features,
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def build_model(
    network: Network, task: Path, impressions: EncodedImpressions, settings: RankingSettings
) -> Any:
    """Its model of that network, with first weights that learn."""
    features = columns(task, impressions)
    layers: dict[str, Any] = {"dnn_hidden_units": settings.hidden_sizes, "seed": settings.seed}
    layers |= {"l2_reg_embedding": 0.0, "init_std": EMBEDDING_STD}
    if network == "din":
        attention = {"att_hidden_size": settings.attention_sizes}
        model = DIN(features, ["item", "channel"], **attention, **layers)
    else:
        model = WDL([], features, **layers)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.reset_parameters()
    with torch.no_grad():
        model.out.bias.fill_(float(np.log(impressions.watch_time_s.mean())))
    return model


class EpochTimes(Callback):  # type: ignore[misc]
    """Times the epochs of a `fit`."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.watch = watch

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Starts."""
        self.watch.start()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Stops."""
        self.watch.stop()


def train(network: Network, task: Path, settings: RankingSettings) -> None:
    """Trains, scores and reports."""
    torch.set_flush_denormal(True)
    examples, watch = read_impressions(task, "train"), Stopwatch()
    learning_rate = settings.learning_rate or LEARNING_RATE
    model = build_model(network, task, examples, settings)
    model.compile(torch.optim.Adam(model.parameters(), lr=learning_rate), loss=exact_loss)
    model.fit(
        inputs(examples),
        examples.watch_time_s,
        batch_size=settings.batch_size,
        epochs=settings.num_epochs,
        verbose=0,
        callbacks=[EpochTimes(watch)],
    )
    asked = inputs(read_impressions(task, settings.part))
    leave_scores(task, model.predict(asked, batch_size=2**12)[:, 0])
    report(
        f"deepctr_torch_{network}",
        settings,
        speed=watch.speed(len(examples)),
        training_s=watch.total_s,
        measured={},
        learning_rate=learning_rate,
    )


if __name__ == "__main__":
    parser = arguments("deepctr_torch", RankingSettings)
    parser.add_argument("--network", choices=get_args(Network), default="mlp")
    given = parser.parse_args()
    train(given.network, given.task, read_settings(given, RankingSettings))
