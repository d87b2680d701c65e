"""Stage 2's task for the training loop: its batches, its step, its validation."""

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.config import config_to_table
from upnext.evaluation.metrics import weighted_per_user_loss
from upnext.examples.encoder import Encoder
from upnext.examples.history import Indices
from upnext.examples.impressions import ImpressionExamples
from upnext.ranking.config import RankingConfig
from upnext.ranking.front import fit_bias
from upnext.ranking.levels import Levels, fit_features
from upnext.ranking.loss import watch_time_weights
from upnext.ranking.model import RankingModel
from upnext.ranking.objectives import Objective, Outcomes, new_objective
from upnext.ranking.wide_and_deep import WideAndDeepNetwork, wide_optimizer
from upnext.schema import Floats
from upnext.training.checkpoint import digest
from upnext.training.descent import SCHEDULED, Descent
from upnext.training.group import ALONE, Group
from upnext.training.precision import precision_on
from upnext.training.sharded import sharded_arrays
from upnext.training.state import Arrays
from upnext.training.tables import RowAdam

REQUESTS_SCORED_AT_ONCE = 500


class RankingTask:
    """An objective on logged requests, as `training.loop.fit` asks for it."""

    stage = "ranking"
    greater_is_better = False

    def __init__(
        self,
        encoder: Encoder,
        examples: ImpressionExamples,
        validation: ImpressionExamples | None,
        config: RankingConfig,
        *,
        group: Group = ALONE,
    ) -> None:
        torch.set_flush_denormal(True)
        torch.manual_seed(config.seed)
        self.encoder, self.examples, self.config = encoder, examples, config
        self.group = group
        generator = np.random.default_rng(config.seed)
        outcomes = outcomes_of(encoder, examples, slice(None), torch.device("cpu"))
        start = new_objective(config).count(outcomes)
        self.model = self._new_model(len(start))
        self.objective: Objective = self.model.scoring.objective
        self.objective.count(outcomes)
        fit_bias(self.model.scoring.network.output_bias, start)
        self.model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        fit_features(self.model, encoder, examples, generator)
        self.precision = precision_on(config.precision, self.model.device, group)
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        self.levels = Levels(self.model, encoder, examples, dtype=dtype)
        self.validation = None
        if validation is not None and validation.num_requests:
            count = min(config.num_validation_requests, validation.num_requests)
            chosen = generator.choice(validation.num_requests, count, replace=False)
            self.validation = validation.take(np.sort(chosen))
            self.validation_levels = Levels(self.model, encoder, self.validation, dtype=dtype)
        has_pairs = self.validation and not math.isnan(_wrongly_ranked(self.validation))
        self.guide = config.guide if has_pairs else "validation_loss"
        self.draw_rate = self._draw_rate(outcomes)
        self.generator = generator
        self.descent = self._new_descent()

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
        share = self.group.share(len(batch))
        mine = batch[share.part]
        with self.group.own_draws():
            outputs, chosen = self._outputs(self.examples, self.levels, mine)
        outcomes = outcomes_of(self.encoder, self.examples, chosen, self.model.device)
        if self.config.weighting == "up-sampling":
            with self.group.own_draws():
                outcomes = self._drawn(outcomes)
        loss = self.objective.loss(outputs, outcomes)
        weight = len(chosen) / self.num_examples(batch) if share.weight else 0.0
        return self.descent.step(loss, weight, learning_rate=learning_rate)

    def validate(self) -> Mapping[str, float]:
        """Mean loss, and the share of watch time that is ranked wrongly."""
        examples = self.validation
        if examples is None:
            return {}
        outputs = self.validation_outputs()
        device = torch.device("cpu")
        outcomes = outcomes_of(self.encoder, examples, slice(None), device)
        self.objective.to(device)
        loss = self.objective.loss(outputs, outcomes)
        seconds = self.objective.seconds(outputs, outcomes.duration_s)
        self.objective.to(self.model.device)
        return {
            "validation_loss": loss.item(),
            "validation_weighted_per_user_loss": _wrongly_ranked(examples, seconds.numpy()),
        }

    def validation_outputs(self) -> torch.Tensor:
        """[M, O] outputs of all validation impressions."""
        assert self.validation is not None
        self.model.eval()
        num_requests, at_once = (
            self.validation.num_requests,
            REQUESTS_SCORED_AT_ONCE * self.group.size,
        )
        parts = []
        with torch.inference_mode():
            for start in range(0, num_requests, at_once):
                requests = np.arange(start, min(start + at_once, num_requests))
                share = self.group.share(len(requests))
                mine = requests[share.part]
                outputs, _ = self._outputs(self.validation, self.validation_levels, mine)
                scored = outputs.cpu().numpy()
                parts.append(self.group.gather(scored if share.weight else scored[:0]))
        return torch.from_numpy(np.concatenate(parts))

    def validation_seconds(self) -> tuple[Floats, Floats]:
        """What is expected of each validation impression before calibration, and what came."""
        assert self.validation is not None
        outputs = self.validation_outputs().to(self.model.device)
        outcomes = outcomes_of(self.encoder, self.validation, slice(None), self.model.device)
        with torch.inference_mode():
            seconds = self.objective.seconds(outputs, outcomes.duration_s)
        return seconds.cpu().numpy(), self.validation.watch_time_s

    def state(self) -> Arrays:
        """Moments of all optimisers."""
        return self.descent.state()

    def load_state(self, state: Arrays) -> None:
        """The inverse of `state`."""
        self.descent.load_state(state)

    def sharded(self) -> Collection[str]:
        """Tables of more rows than each worker should hold."""
        return tuple(sharded_arrays(self.model))

    def _new_model(self, num_outputs: int) -> RankingModel:
        config = self.config
        is_large = self.encoder.catalogue.num_rows > config.max_dense_items
        return RankingModel(
            self.encoder,
            config,
            num_sources=self.examples.source_scores.shape[1],
            num_outputs=num_outputs,
            is_sparse=config.optimizer == "row_adam" or (config.optimizer == "auto" and is_large),
            group=self.group,
        )

    def _new_descent(self) -> Descent:
        """Adam; one a table that is updated by row; and that of the weights of crosses."""
        config, network = self.config, self.model.scoring.network
        tables = RowAdam.of_each_table(self.model, weight_decay=config.weight_decay)
        apart = {id(one.table.weight) for one in tables.values()}
        optimizers: dict[str, torch.optim.Optimizer] = {}
        if isinstance(network, WideAndDeepNetwork):
            apart.add(id(network.wide))
            optimizers["wide"] = wide_optimizer(network, config.network)
        optimizers[SCHEDULED] = torch.optim.AdamW(
            [weight for weight in self.model.parameters() if id(weight) not in apart],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        return Descent(optimizers, tables, self.group)

    def _outputs(
        self, examples: ImpressionExamples, levels: Levels, requests: Indices
    ) -> tuple[torch.Tensor, Indices]:
        """[M, O] of some requests, and which impressions they are."""
        raw, chosen = examples.inputs(self.encoder, requests)
        kept = levels.of(raw, requests, chosen)
        is_short = self.precision == "bfloat16"
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=is_short):
            inputs = self.model.inputs(raw, kept)
            outputs = self.model.scoring.outputs(inputs)
        return outputs.float(), chosen

    def _draw_rate(self, outcomes: Outcomes) -> float:
        """So many copies a unit of weight that on average each impression is drawn once."""
        weights = watch_time_weights(
            outcomes.watched, outcomes.watch_time_s, variant=self.config.variant
        )
        return len(outcomes.watched) / float(sum(part.sum() for part in weights))

    def _drawn(self, outcomes: Outcomes) -> Outcomes:
        """Copies of each impression as a positive and as a negative, as if drawn with replacement.

        Their numbers are Poisson with the weights as means, in units that keep the loss's size.
        """
        weights = watch_time_weights(
            outcomes.watched, outcomes.watch_time_s, variant=self.config.variant
        )
        positive, negative = (
            torch.poisson(part * self.draw_rate) / self.draw_rate for part in weights
        )
        return Outcomes(
            outcomes.watched, outcomes.watch_time_s, outcomes.duration_s, (positive, negative)
        )


def _wrongly_ranked(examples: ImpressionExamples, scores: Floats | None = None) -> float:
    """Share of watch time ranked below something unwatched of its page; nan without such pairs.

    `scores`: of each impression; without them all are alike.
    """
    counts = np.diff(examples.starts)
    return weighted_per_user_loss(
        np.repeat(np.arange(len(counts)), counts),
        examples.watched,
        examples.watch_time_s,
        np.zeros(len(examples.watched)) if scores is None else scores,
    )


def outcomes_of(
    encoder: Encoder,
    examples: ImpressionExamples,
    impressions: Indices | slice,
    device: torch.device,
) -> Outcomes:
    """What came of some impressions."""

    def tensor(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(array, np.float32)).to(device)

    return Outcomes(
        watched=tensor(examples.watched[impressions]),
        watch_time_s=tensor(examples.watch_time_s[impressions]),
        duration_s=tensor(encoder.catalogue.duration_s[examples.item_rows[impressions]]),
    )
