"""Trains the retrieval network on watch examples, with Recall@K on later watches as its guide."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from upnext.config import require
from upnext.errors import DataError
from upnext.evaluation.metrics import recall_at_k
from upnext.evaluation.ranks import SeenRows, rank_targets
from upnext.examples.encoder import Encoder
from upnext.examples.history import History, Indices
from upnext.examples.watches import (
    Queries,
    QueryEncoder,
    WatchExamples,
    WatchTargets,
    build_watch_examples,
)
from upnext.retrieval.batches import epoch_batches
from upnext.retrieval.loss import full_softmax_loss, sampled_softmax_loss
from upnext.retrieval.model import RetrievalModel, RetrievalNetworkConfig, window_means
from upnext.retrieval.sampling import NegativeSampler, SamplerName, negative_sampler
from upnext.schema import NUM_RESERVED_ROWS, Floats

VALIDATION_K = 50

EXAMPLE_ORDER, SKIPS = 0, 1
"""Keep the draws of the examples' order and of skipped watches apart."""


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """How stage 1 learns."""

    network: RetrievalNetworkConfig = field(default_factory=RetrievalNetworkConfig)
    """Sizes of the network."""
    completed_share: float = 0.0
    """A watch of a smaller share of the item's duration is no positive."""
    examples_per_user: int = 100
    """Examples that each user gives to an epoch at most, drawn anew each time, so that heavy users
    do not dominate; 0 takes all."""
    loss: Literal["sampled_softmax", "full_softmax"] = "sampled_softmax"
    """Against drawn negatives, or over the whole catalogue. With a catalogue no larger than
    num_negatives the full softmax is the cheaper one and is taken in any case."""
    num_negatives: int = 2_000
    """Negatives drawn for each batch and shared by its examples."""
    sampler: SamplerName = "unigram"
    """How negatives are drawn."""
    sampler_power: float = 0.75
    """Exponent of the unigram sampler."""
    batch_size: int = 2_048
    """Examples a step."""
    learning_rate: float = 0.004
    """Step size of Adam at the start; it falls in a straight line to 0 at the last epoch."""
    skipped_watches: float = 0.0
    """Newest watches that an example does not see, on average; how many is drawn anew each time.
    Above 0 an example asks for a watch a little further ahead, which steadies what is learned from
    small logs and from those whose order within a sitting says little."""
    weight_decay: float = 0.0
    """Decoupled decay per step, times the learning rate (AdamW)."""
    num_epochs: int = 20
    """Passes over the examples at most."""
    patience: int = 3
    """Epochs without a better Recall@50 on validation after which training stops."""
    num_validation_events: int = 5_000
    """Watches that validation ranks, drawn once."""
    seed: int = 7
    """Seed of initial weights, example order and negatives."""

    def __post_init__(self) -> None:
        counts = ("num_negatives", "batch_size", "num_epochs", "patience", "num_validation_events")
        may_be_0 = ("examples_per_user", "skipped_watches", "weight_decay", "learning_rate")
        least = dict.fromkeys(counts, 1) | dict.fromkeys(may_be_0, 0)
        require("retrieval", self, at_least=least)


@dataclass(frozen=True, kw_only=True)
class RetrievalEpoch:
    """What one pass over the examples gave; loss in nats per example."""

    epoch: int
    loss: float
    validation_recall: float
    examples_per_s: float


@dataclass(frozen=True)
class TrainedRetrieval:
    """The network of the best epoch and all that is needed to ask it."""

    model: RetrievalModel
    query_encoder: QueryEncoder
    epochs: tuple[RetrievalEpoch, ...]

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept: that of the best validation, or else the last."""
        recalls = [epoch.validation_recall for epoch in self.epochs]
        return len(recalls) - 1 if np.isnan(recalls).any() else int(np.argmax(recalls))

    def typical_user_vectors(self, history: History, num_vectors: int = 1_000) -> Floats:
        """[B, D] user vectors after the last watches of some users, to tune an index with."""
        last = np.flatnonzero(np.diff(history.watches.starts))
        chosen = last[:: max(1, len(last) // num_vectors)]
        at_ms = history.watches.at_ms[history.watches.starts[chosen + 1] - 1] + 1
        return self.user_vectors(history, self.query_encoder.queries(history, chosen, at_ms))

    def user_vectors(self, history: History, queries: Queries) -> Floats:
        """[B, D] at example age 0, as in serving. Queries of any order."""
        order = np.lexsort((queries.search_hi, queries.watch_hi, queries.user_rows))
        vectors = np.empty((len(queries), self.model.item_vectors.embedding_dim), np.float32)
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), 4_096):
                part = order[start : start + 4_096]
                vectors[part] = (
                    _user_vectors(self.model, self.query_encoder, history, queries[part])
                    .cpu()
                    .numpy()
                )
        return vectors

    def item_vectors(self) -> Floats:
        """[N, D], float32."""
        table: Floats = self.model.item_vectors.weight.detach().cpu().numpy()
        return table


def train_retrieval(
    encoder: Encoder,
    history: History,
    validation: WatchTargets | None,
    config: RetrievalConfig,
    *,
    mask_watched: bool = True,
    stop_after: int | None = None,
    on_epoch: Callable[[RetrievalEpoch], None] = lambda _: None,
) -> TrainedRetrieval:
    """Learns to predict each user's next watch.

    Args:
        encoder: built from the training logs.
        history: of the training logs alone.
        validation: later watches; without any the last epoch is kept.
        stop_after: epochs after which to end, though the learning rate falls as for all of them.
        mask_watched: whether validation leaves watched items out, as serving will.

    Raises: DataError: no watch of a known item is long enough to be an example.
    """
    query_encoder, examples = build_watch_examples(
        encoder, history, completed_share=config.completed_share
    )
    if not len(examples.queries):
        raise DataError(
            "retrieval examples",
            expected="completed watches of known items",
            got="none",
            hint="lower [retrieval] completed_share or [examples] min_watches.",
        )
    torch.set_flush_denormal(True)
    torch.manual_seed(config.seed)
    model = _new_model(query_encoder, examples, config.network)
    trained = TrainedRetrieval(model, query_encoder, ())
    step = _Step(trained, examples, config)
    held_out = None
    if validation is not None and len(validation):
        held_out = validation.sample(config.num_validation_events, seed=config.seed)
    epochs: list[RetrievalEpoch] = []
    best_weights = model.state_dict()
    for epoch in range(config.num_epochs)[:stop_after]:
        loss, examples_per_s = _one_epoch(step, epoch)
        recall = np.nan if held_out is None else _recall(trained, held_out, mask_watched)
        result = RetrievalEpoch(
            epoch=epoch,
            loss=loss,
            validation_recall=float(recall),
            examples_per_s=examples_per_s,
        )
        epochs.append(result)
        on_epoch(result)
        best = replace(trained, epochs=tuple(epochs)).best_epoch
        if best == epoch:
            best_weights = copy.deepcopy(model.state_dict())
        elif epoch - best >= config.patience:
            break
    model.load_state_dict(best_weights)
    model.eval()
    return TrainedRetrieval(model, query_encoder, tuple(epochs))


def _one_epoch(step: "_Step", epoch: int) -> tuple[float, float]:
    """Mean loss and examples/s of one pass over the examples."""
    began = time.perf_counter()
    config = step.config
    batches = list(
        epoch_batches(
            step.examples.queries.user_rows,
            batch_size=config.batch_size,
            examples_per_user=config.examples_per_user,
            generator=np.random.default_rng((config.seed, EXAMPLE_ORDER, epoch)),
        )
    )
    sizes = [len(batch) for batch in batches]
    losses = [
        step(batch, trained_share=(epoch + place / len(batches)) / config.num_epochs)
        for place, batch in enumerate(batches)
    ]
    seconds = time.perf_counter() - began
    return float(np.average(losses, weights=sizes)), sum(sizes) / seconds


def _new_model(
    query_encoder: QueryEncoder, examples: WatchExamples, config: RetrievalNetworkConfig
) -> RetrievalModel:
    """With random weights, on the accelerator if there is one."""
    encoder = query_encoder.encoder
    model = RetrievalModel(
        config,
        num_items=encoder.catalogue.num_rows,
        num_search_tokens=encoder.search_tokens.num_rows,
        context_sizes=encoder.context_sizes,
        num_watch_windows=len(encoder.config.watch_windows),
        num_context_values=query_encoder.num_context_values,
        longest_age_days=float(examples.example_age_days.max()),
    )
    return model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


class _Step:
    """One step of gradient descent on a batch of examples."""

    def __init__(
        self,
        trained: TrainedRetrieval,
        examples: WatchExamples,
        config: RetrievalConfig,
    ) -> None:
        self.model = model = trained.model
        self.query_encoder = trained.query_encoder
        self.examples = examples
        self.config = config
        self.generator = torch.Generator().manual_seed(config.seed)
        self.skips = np.random.default_rng((config.seed, SKIPS))
        self.device = model.item_vectors.weight.device
        catalogue = trained.query_encoder.encoder.catalogue
        num_items = catalogue.num_rows - NUM_RESERVED_ROWS
        self.sampler: NegativeSampler | None = None
        if config.loss == "sampled_softmax" and num_items > config.num_negatives:
            self.sampler = negative_sampler(
                config.sampler, num_watches=catalogue.num_watches, power=config.sampler_power
            )
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def __call__(self, batch: Indices, *, trained_share: float) -> float:
        """The loss of the batch; `trained_share` of all planned steps lies behind this one."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (1.0 - trained_share)
        examples = self.examples
        user_vectors = _user_vectors(
            self.model,
            self.query_encoder,
            examples.history,
            examples.queries[batch],
            torch.from_numpy(examples.example_age_days[batch]),
            self._skipped(len(batch)),
        )
        rows = torch.from_numpy(examples.item_rows[batch].astype(np.int64)).to(self.device)
        loss = self._loss(user_vectors, rows)
        value = loss.item()
        if not np.isfinite(value):
            raise FloatingPointError(
                f"retrieval: the loss became {value} in the batch that begins with example "
                f"{batch[0]}; a lower [retrieval] learning_rate usually helps."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value

    def _skipped(self, num_examples: int) -> Indices | None:
        mean = self.config.skipped_watches
        if mean == 0:
            return None
        return self.skips.geometric(1 / (1 + mean), num_examples) - 1

    def _loss(self, user_vectors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        table = self.model.item_vectors
        if self.sampler is None:
            real_items = table.weight[NUM_RESERVED_ROWS:]
            return full_softmax_loss(
                user_vectors, real_items, positive_rows=rows - NUM_RESERVED_ROWS
            )
        drawn, log_q = self.sampler.draw(self.config.num_negatives, self.generator)
        negative_rows = drawn.to(self.device)
        return sampled_softmax_loss(
            user_vectors,
            table(rows),
            table(negative_rows),
            positive_rows=rows,
            negative_rows=negative_rows,
            negative_log_q=log_q.to(self.device),
        )


def _user_vectors(
    model: RetrievalModel,
    query_encoder: QueryEncoder,
    history: History,
    queries: Queries,
    example_age_days: torch.Tensor | None = None,
    skipped: Indices | None = None,
) -> torch.Tensor:
    config, device = query_encoder.encoder.config, model.item_vectors.weight.device
    age = torch.zeros(len(queries)) if example_age_days is None else example_age_days
    vectors: torch.Tensor = model.tower(
        window_means(
            model.watch_embeddings,
            history.watches,
            queries.watch_lo,
            queries.watch_hi,
            config.watch_windows,
            skipped=skipped,
        ),
        window_means(
            model.search_embeddings,
            history.searches,
            queries.search_lo,
            queries.search_hi,
            (config.num_searches,),
        ),
        torch.from_numpy(queries.context_rows).to(device, torch.int64),
        torch.from_numpy(queries.context_values).to(device),
        age.to(device),
    )
    return vectors


def _recall(trained: TrainedRetrieval, targets: WatchTargets, mask_watched: bool) -> float:
    history = targets.history
    queries = trained.query_encoder.queries(history, targets.user_rows, targets.at_ms)
    user_vectors = trained.user_vectors(history, queries)
    item_vectors = trained.item_vectors()
    ranked = rank_targets(
        lambda part: user_vectors[part] @ item_vectors.T,
        targets.item_rows,
        num_rows=len(item_vectors),
        seen=SeenRows(*targets.watched_before()) if mask_watched else None,
        top_k=VALIDATION_K,
    )
    return float(recall_at_k(ranked.ranks, VALIDATION_K).mean())
