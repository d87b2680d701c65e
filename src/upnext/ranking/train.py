"""Trains the ranking network on impressions, watched or not."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from upnext.config import require
from upnext.errors import DataError
from upnext.evaluation.metrics import weighted_per_user_loss
from upnext.examples.encoder import Encoder
from upnext.examples.history import Indices
from upnext.examples.impressions import ImpressionExamples
from upnext.ranking.features import candidate_features, query_features
from upnext.ranking.loss import WeightedLogisticVariant, weighted_logistic_loss
from upnext.ranking.mlp import RankingNetworkConfig
from upnext.ranking.model import RankingModel
from upnext.schema import Floats

REQUESTS_FOR_QUANTILES = 10_000


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """How stage 2 learns."""

    network: RankingNetworkConfig = field(default_factory=RankingNetworkConfig)
    """Sizes of the network."""
    variant: WeightedLogisticVariant = "exact"
    """`exact` makes the odds E[T]; `paper` makes them E[T] / (1 − click rate)."""
    requests_per_batch: int = 400
    """Requests a step, each with all its impressions."""
    learning_rate: float = 0.002
    """Step size of Adam at the start; it falls in a straight line to 0 at the last epoch."""
    num_epochs: int = 3
    """Passes over the impressions at most."""
    patience: int = 1
    """Epochs without a better validation loss after which training stops."""
    num_validation_requests: int = 5_000
    """Requests that validation scores, drawn once."""
    seed: int = 7
    """Seed of initial weights and the order of requests."""

    def __post_init__(self) -> None:
        counts = ("requests_per_batch", "num_epochs", "patience", "num_validation_requests")
        require("ranking", self, at_least=dict.fromkeys(counts, 1) | {"learning_rate": 0})


@dataclass(frozen=True, kw_only=True)
class RankingEpoch:
    """What one pass over the impressions gave.

    `validation_weighted_per_user_loss`: share of watch time that is ranked wrongly.
    """

    epoch: int
    loss: float
    validation_loss: float
    validation_weighted_per_user_loss: float
    impressions_per_s: float


@dataclass(frozen=True)
class TrainedRanking:
    """The network of the best epoch."""

    model: RankingModel
    epochs: tuple[RankingEpoch, ...]

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept: that of the best validation, or else the last."""
        losses = [epoch.validation_loss for epoch in self.epochs]
        return len(losses) - 1 if np.isnan(losses).any() else int(np.argmin(losses))


def train_ranking(
    encoder: Encoder,
    examples: ImpressionExamples,
    validation: ImpressionExamples | None,
    config: RankingConfig,
    *,
    stop_after: int | None = None,
    on_epoch: Callable[[RankingEpoch], None] = lambda _: None,
) -> TrainedRanking:
    """Learns the expected watch time of an impression.

    Raises: DataError: no impression was watched.
    """
    if not examples.watched.any():
        raise DataError(
            "impressions",
            expected="some that were watched",
            got="none",
            hint="check the column that is mapped to `watched`.",
        )
    torch.set_flush_denormal(True)
    torch.manual_seed(config.seed)
    generator = np.random.default_rng(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = RankingModel(encoder, config.network).to(device)
    _fit_quantiles(model, encoder, examples, generator)
    _start_at_mean_watch_time(model, examples)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    held_out = np.zeros(0, np.int64)
    if validation is not None:
        count = min(config.num_validation_requests, validation.num_requests)
        held_out = np.sort(generator.choice(validation.num_requests, count, replace=False))
    epochs: list[RankingEpoch] = []
    best_weights = model.state_dict()
    for epoch in range(config.num_epochs)[:stop_after]:
        loss, impressions_per_s = _one_epoch(
            model, optimizer, encoder, examples, config, epoch, generator
        )
        result = RankingEpoch(
            epoch=epoch,
            loss=loss,
            impressions_per_s=impressions_per_s,
            **_validate(model, encoder, validation, held_out, config),
        )
        epochs.append(result)
        on_epoch(result)
        best = TrainedRanking(model, tuple(epochs)).best_epoch
        if best == epoch:
            best_weights = copy.deepcopy(model.state_dict())
        elif epoch - best >= config.patience:
            break
    model.load_state_dict(best_weights)
    model.eval()
    return TrainedRanking(model, tuple(epochs))


def score_impressions(
    model: RankingModel, encoder: Encoder, examples: ImpressionExamples, requests: Indices
) -> tuple[Floats, Indices]:
    """Logits of the impressions of some requests, [M], and which impressions they are."""
    logits, chosen = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(requests), 1_000):
            raw, part = examples.inputs(encoder, requests[start : start + 1_000])
            logits.append(model(raw).cpu().numpy())
            chosen.append(part)
    return np.concatenate(logits), np.concatenate(chosen)


def _batches(
    num_requests: int, batch_size: int, generator: np.random.Generator
) -> Iterator[Indices]:
    shuffled = generator.permutation(num_requests)
    for start in range(0, num_requests, batch_size):
        yield shuffled[start : start + batch_size]


def _fit_quantiles(
    model: RankingModel,
    encoder: Encoder,
    examples: ImpressionExamples,
    generator: np.random.Generator,
) -> None:
    """One pass over a sample of the requests."""
    count = min(REQUESTS_FOR_QUANTILES, examples.num_requests)
    sample = np.sort(generator.choice(examples.num_requests, count, replace=False))
    of_candidates, of_queries = [], []
    with torch.inference_mode():
        for start in range(0, count, 1_000):
            inputs = model.inputs(examples.inputs(encoder, sample[start : start + 1_000])[0])
            of_candidates.append(candidate_features(inputs).cpu().numpy())
            of_queries.append(query_features(inputs).cpu().numpy())
    model.network.candidate_quantiles.fit(np.concatenate(of_candidates))
    model.network.query_quantiles.fit(np.concatenate(of_queries))


def _start_at_mean_watch_time(model: RankingModel, examples: ImpressionExamples) -> None:
    """The last bias starts at log E[T], so that training begins with the right overall odds."""
    mean_s = float((examples.watched * examples.watch_time_s).mean())
    with torch.no_grad():
        model.network.output_bias.fill_(float(np.log(max(mean_s, 1e-6))))


def _one_epoch(
    model: RankingModel,
    optimizer: torch.optim.Optimizer,
    encoder: Encoder,
    examples: ImpressionExamples,
    config: RankingConfig,
    epoch: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Mean loss and impressions/s of one pass over the impressions."""
    began, total, num_impressions = time.perf_counter(), 0.0, 0
    model.train()
    batches = list(_batches(examples.num_requests, config.requests_per_batch, generator))
    for place, requests in enumerate(batches):
        trained_share = (epoch + place / len(batches)) / config.num_epochs
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1.0 - trained_share)
        loss, count = _step(model, optimizer, encoder, examples, requests, config.variant)
        total += loss * count
        num_impressions += count
    return total / num_impressions, num_impressions / (time.perf_counter() - began)


def _step(
    model: RankingModel,
    optimizer: torch.optim.Optimizer,
    encoder: Encoder,
    examples: ImpressionExamples,
    requests: Indices,
    variant: WeightedLogisticVariant,
) -> tuple[float, int]:
    """One step of gradient descent: the loss before it, and of how many impressions."""
    raw, chosen = examples.inputs(encoder, requests)
    logits = model(raw)
    watched = torch.from_numpy(examples.watched[chosen].astype(np.float32)).to(logits.device)
    watch_time_s = torch.from_numpy(examples.watch_time_s[chosen]).to(logits.device)
    loss = weighted_logistic_loss(logits, watched, watch_time_s, variant=variant)
    value = loss.item()
    if not np.isfinite(value):
        raise FloatingPointError(
            f"ranking: the loss became {value} in the batch that begins with request "
            f"{requests[0]}; a lower [ranking] learning_rate usually helps."
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value, len(chosen)


def _validate(
    model: RankingModel,
    encoder: Encoder,
    validation: ImpressionExamples | None,
    requests: Indices,
    config: RankingConfig,
) -> dict[str, float]:
    if validation is None or not len(requests):
        return {"validation_loss": np.nan, "validation_weighted_per_user_loss": np.nan}
    logits, chosen = score_impressions(model, encoder, validation, requests)
    watched, watch_time_s = validation.watched[chosen], validation.watch_time_s[chosen]
    loss = weighted_logistic_loss(
        torch.from_numpy(logits),
        torch.from_numpy(watched.astype(np.float32)),
        torch.from_numpy(watch_time_s),
        variant=config.variant,
    )
    request_of = np.searchsorted(validation.starts, chosen, side="right") - 1
    return {
        "validation_loss": loss.item(),
        "validation_weighted_per_user_loss": float(
            weighted_per_user_loss(request_of, watched, watch_time_s, logits)
        ),
    }
