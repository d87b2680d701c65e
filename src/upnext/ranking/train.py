"""Trains the ranking network on impressions, watched or not."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from upnext.config import config_to_table, require
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
from upnext.training.checkpoint import digest
from upnext.training.logbook import Epoch, Logbook
from upnext.training.loop import fit
from upnext.training.schedule import LearningRate, ScheduleName, check_warmup
from upnext.training.state import Arrays, load_optimizer, optimizer_arrays
from upnext.training.task import Plan

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
    """Step size of Adam at its highest."""
    learning_rate_schedule: ScheduleName = "linear"
    """How the learning rate falls until the end of the last planned epoch: in a straight line to 0,
    along half a cosine to 0, or not at all."""
    warmup_share: float = 0.0
    """Share of all planned steps, below 1, in which the learning rate first rises from 0."""
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
        check_warmup("ranking", self.warmup_share)


@dataclass(frozen=True)
class TrainedRanking:
    """The network of the best epoch: that of the best validation loss, or else the last."""

    model: RankingModel
    epochs: tuple[Epoch, ...]
    best_epoch: int


def train_ranking(
    encoder: Encoder,
    examples: ImpressionExamples,
    validation: ImpressionExamples | None,
    config: RankingConfig,
    *,
    stop_after: int | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    logbook: Logbook | None = None,
) -> TrainedRanking:
    """Learns the expected watch time of an impression.

    Args:
        stop_after: epochs after which to end, though the learning rate falls as for all of them.
        logbook: who is told, and the folder from which a run that was cut short goes on.

    Raises:
        DataError: no impression was watched.
        TrainingError: the loss is no longer a finite number.
    """
    if not examples.watched.any():
        raise DataError(
            "impressions",
            expected="some that were watched",
            got="none",
            hint="check the column that is mapped to `watched`.",
        )
    task = _RankingTask(encoder, examples, validation, config)
    plan = Plan(
        num_epochs=config.num_epochs,
        patience=config.patience,
        stop_after=stop_after,
        learning_rate=LearningRate(
            peak=config.learning_rate,
            schedule=config.learning_rate_schedule,
            warmup_share=config.warmup_share,
        ),
    )
    fitted = fit(task, plan, on_epoch=on_epoch, logbook=logbook)
    task.model.eval()
    return TrainedRanking(task.model, fitted.epochs, fitted.best_epoch)


class _RankingTask:
    """Weighted logistic regression on logged requests, as `training.loop.fit` asks for it."""

    stage = "ranking"
    guide = "validation_loss"
    greater_is_better = False

    def __init__(
        self,
        encoder: Encoder,
        examples: ImpressionExamples,
        validation: ImpressionExamples | None,
        config: RankingConfig,
    ) -> None:
        torch.set_flush_denormal(True)
        torch.manual_seed(config.seed)
        self.encoder, self.examples, self.config = encoder, examples, config
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = RankingModel(encoder, config.network).to(device)
        generator = np.random.default_rng(config.seed)
        _fit_quantiles(self.model, encoder, examples, generator)
        _start_at_mean_watch_time(self.model, examples)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, fused=True
        )
        self.validation, self.held_out = validation, np.zeros(0, np.int64)
        if validation is not None:
            count = min(config.num_validation_requests, validation.num_requests)
            self.held_out = np.sort(generator.choice(validation.num_requests, count, replace=False))
        self.generator = generator

    def identity(self) -> Mapping[str, Any]:
        """Config, and a hash of all that is learned from or validated on."""
        data = digest(self.encoder, self.examples, self.validation)
        return {"config": config_to_table(self.config), "data": data}

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Requests in a new order each epoch, which goes on drawing where the last one ended."""
        generator = copy.deepcopy(self.generator)
        for _ in range(epoch + 1):
            shuffled = generator.permutation(self.examples.num_requests)
        size = self.config.requests_per_batch
        return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]

    def num_examples(self, batch: Indices) -> int:
        """Impressions of these requests."""
        starts = self.examples.starts
        return int((starts[batch + 1] - starts[batch]).sum())

    def step(self, batch: Indices, *, learning_rate: float) -> torch.Tensor:
        """On all impressions of some requests."""
        self.model.train()
        self.optimizer.param_groups[0]["lr"] = learning_rate
        raw, chosen = self.examples.inputs(self.encoder, batch)
        loss = _loss(self.model(raw), self.examples, chosen, self.config.variant)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss

    def validate(self) -> Mapping[str, float]:
        """Mean loss, and the share of watch time that is ranked wrongly."""
        examples = self.validation
        if examples is None or not len(self.held_out):
            return {}
        logits, chosen = score_impressions(self.model, self.encoder, examples, self.held_out)
        loss = _loss(torch.from_numpy(logits), examples, chosen, self.config.variant)
        wrongly_ranked = weighted_per_user_loss(
            np.searchsorted(examples.starts, chosen, side="right") - 1,
            examples.watched[chosen],
            examples.watch_time_s[chosen],
            logits,
        )
        return {
            "validation_loss": loss.item(),
            "validation_weighted_per_user_loss": float(wrongly_ranked),
        }

    def state(self) -> Arrays:
        """Adam's moments."""
        return optimizer_arrays(self.optimizer)

    def load_state(self, state: Arrays) -> None:
        """The inverse of `state`."""
        load_optimizer(self.optimizer, state)


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


def _loss(
    logits: torch.Tensor,
    examples: ImpressionExamples,
    chosen: Indices,
    variant: WeightedLogisticVariant,
) -> torch.Tensor:
    """The mean loss of the logits of some impressions."""
    watched = torch.from_numpy(examples.watched[chosen].astype(np.float32)).to(logits.device)
    watch_time_s = torch.from_numpy(examples.watch_time_s[chosen]).to(logits.device)
    return weighted_logistic_loss(logits, watched, watch_time_s, variant=variant)
