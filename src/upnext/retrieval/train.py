"""Trains the retrieval network on watch examples, with Recall@50 on later watches as its guide."""

from collections.abc import Callable

import numpy as np
import torch

from upnext.errors import ConfigError, DataError
from upnext.examples.encoder import Encoder
from upnext.examples.history import History
from upnext.examples.watches import (
    QueryEncoder,
    WatchExamples,
    WatchTargets,
    build_watch_examples,
)
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import InputSizes, RetrievalModel
from upnext.retrieval.step import RetrievalTask
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import MS_PER_DAY
from upnext.training.group import ALONE, Group
from upnext.training.logbook import Epoch, Logbook
from upnext.training.loop import fit
from upnext.training.side_features import SideFeatures
from upnext.training.task import Plan


def train_retrieval(
    encoder: Encoder,
    history: History,
    validation: WatchTargets | None,
    config: RetrievalConfig,
    *,
    mask_watched: bool = True,
    stop_after: int | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    logbook: Logbook | None = None,
    group: Group = ALONE,
) -> TrainedRetrieval:
    """Learns to predict each user's next watch.

    Args:
        encoder: built from the training logs.
        history: of the training logs alone.
        validation: later watches; without any the last epoch is kept.
        mask_watched: whether validation leaves watched items out, as serving will.
        stop_after: epochs after which to end, though the learning rate falls as for all of them.
        on_epoch: told of each epoch as it ends.
        logbook: who is told more, and where checkpoints and curves are kept; without one nowhere.
        group: the workers that do this together, each with all other arguments the same.

    Raises:
        DataError: no watch of a known item is long enough to be an example.
        ConfigError: items are to be told by features alone, and have none.
        TrainingError: the loss is no number any more.
    """
    query_encoder, examples = build_watch_examples(
        encoder, history, completed_share=config.completed_share
    )
    if not len(examples):
        raise DataError(
            "retrieval examples",
            expected="completed watches of known items",
            got="none",
            hint="lower [retrieval] completed_share or [examples] min_watches.",
        )
    torch.set_flush_denormal(True)
    torch.manual_seed(config.seed)
    model = new_model(query_encoder, examples, config, group)
    trained = TrainedRetrieval(model, query_encoder)
    held_out = None
    if validation is not None and len(validation):
        held_out = validation.sample(config.num_validation_events, seed=config.seed)
    task = RetrievalTask(
        trained, examples, held_out, config, mask_watched=mask_watched, group=group
    )
    fitted = fit(task, Plan.of(config, stop_after=stop_after), on_epoch=on_epoch, logbook=logbook)
    model.eval()
    return TrainedRetrieval(model, query_encoder, fitted.epochs, fitted.best_epoch)


def new_model(
    query_encoder: QueryEncoder, examples: WatchExamples, config: RetrievalConfig, group: Group
) -> RetrievalModel:
    """A network with random weights, on the accelerator if there is one.

    Raises: ConfigError: items are to be told by features alone, and have none.
    """
    encoder = query_encoder.encoder
    is_sparse = config.optimizer == "row_adam" or (
        config.optimizer == "auto" and encoder.catalogue.num_rows > config.max_dense_items
    )
    sizes = InputSizes(
        num_items=encoder.catalogue.num_rows,
        num_search_tokens=encoder.search_tokens.num_rows,
        context_sizes=encoder.context_sizes,
        num_context_values=query_encoder.num_context_values,
        watch_windows=encoder.config.watch_windows,
        longest_age_days=_longest_age_days(examples, config),
    )
    if config.network.item_dropout > 0 and not encoder.item_features.names:
        raise ConfigError(
            "[retrieval.network] item_dropout",
            expected="0 without [examples] item_features",
            got=str(config.network.item_dropout),
        )
    side = None
    if encoder.item_features.names:
        side = SideFeatures(
            encoder.item_features, config.network.vector_size, is_sparse=is_sparse, group=group
        )
    model = RetrievalModel(config.network, sizes, side=side, is_sparse=is_sparse, group=group)
    return model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _longest_age_days(examples: WatchExamples, config: RetrievalConfig) -> float:
    """The greatest example age, in the reading that the network is told."""
    if config.network.example_age == "publication":
        return float(np.abs(examples.item_age_days).max())
    return (examples.last_ms - int(examples.at_ms.min())) / MS_PER_DAY
