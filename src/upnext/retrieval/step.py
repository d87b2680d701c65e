"""What the training loop asks of stage 1: batches, a step of gradient descent, validation."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.config import config_to_table
from upnext.evaluation.metrics import ndcg_at_k, recall_at_k
from upnext.examples.history import Indices
from upnext.examples.watches import WatchExamples, WatchTargets
from upnext.retrieval.batches import ThinnedBatches, epoch_batches
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.loss import (
    full_softmax_loss,
    negative_sampling_loss,
    noise_contrastive_loss,
    sampled_softmax_loss,
)
from upnext.retrieval.sampling import Sampler, keep_probability, negative_sampler
from upnext.retrieval.trained import TrainedRetrieval, user_vectors
from upnext.retrieval.validation import ranks_of
from upnext.schema import NUM_RESERVED_ROWS, Floats
from upnext.training.checkpoint import digest
from upnext.training.descent import SCHEDULED, Descent
from upnext.training.group import ALONE, LARGEST_SEED, Group
from upnext.training.precision import precision_on
from upnext.training.sharded import sharded_arrays
from upnext.training.state import Arrays, array_tensors, prefixed, tensor_arrays, under
from upnext.training.tables import RowAdam

EXAMPLES_PER_RUN = 32
"""So many windows of a user overlap almost wholly; more would shuffle less."""


class RetrievalTask:
    """Stage 1 as a `training.loop.Task`.

    Every draw of a step begins with torch's own generator. A checkpoint keeps its place, which is
    the same at all workers: so they agree on negatives and on skipped watches.
    """

    stage = "retrieval"
    greater_is_better = True

    def __init__(
        self,
        trained: TrainedRetrieval,
        examples: WatchExamples,
        held_out: WatchTargets | None,
        config: RetrievalConfig,
        *,
        mask_watched: bool,
        group: Group = ALONE,
    ) -> None:
        self.group = group
        self.trained, self.model = trained, trained.model
        self.examples, self.held_out, self.config = examples, held_out, config
        self.mask_watched = mask_watched
        self.guide = config.guide
        self.precision = precision_on(config.precision, self.model.device, group)
        starts = examples.history.watches.starts
        self.user_starts = np.searchsorted(examples.events, starts)
        catalogue = trained.query_encoder.encoder.catalogue
        self.is_full = config.loss == "full_softmax" or (
            config.loss == "sampled_softmax"
            and config.sampler != "in_batch"
            and catalogue.num_rows - NUM_RESERVED_ROWS <= config.num_negatives
        )
        self.keep = keep_probability(catalogue.num_watches, config.subsampling)
        self.sampler: Sampler = negative_sampler(
            config.sampler,
            num_watches=self._expected_positives(),
            power=config.sampler_power,
            num_negatives=config.num_negatives,
            unique=config.unique_negatives,
            device=self.model.device,
        )
        self.generator = torch.Generator(device=self.model.device)
        tables = RowAdam.of_each_table(self.model, weight_decay=config.weight_decay)
        apart = {id(one.table.weight) for one in tables.values()}
        adam = torch.optim.AdamW(
            [weight for weight in self.model.parameters() if id(weight) not in apart],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.descent = Descent({SCHEDULED: adam}, tables, group)

    def batches(self, epoch: int) -> Sequence[Indices]:
        """The epoch's batches: a function of seed and epoch."""
        config = self.config
        batches = epoch_batches(
            self.user_starts,
            batch_size=config.batch_size,
            examples_per_user=config.examples_per_user,
            run_length=self._run_length,
            generator=np.random.default_rng((config.seed, epoch)),
        )
        if config.subsampling == 0:
            return batches
        return ThinnedBatches(
            batches, lambda chosen: self.keep[self.examples[chosen].item_rows], (config.seed, epoch)
        )

    def _expected_positives(self) -> NDArray[np.float64]:
        """How often each item is a positive of an epoch, or in proportion to it: [N]."""
        config, item_rows = self.config, self.examples.item_rows
        chances = None
        if config.sampler in ("in_batch", "mixed"):  # which suppose the very frequencies
            counts = np.diff(self.user_starts)
            limit = config.examples_per_user or len(item_rows)
            chances = np.repeat(np.minimum(1.0, limit / np.maximum(counts, 1)), counts)
            chances *= self.keep[item_rows]
        return np.bincount(item_rows, chances, minlength=len(self.keep)).astype(np.float64)

    @property
    def _run_length(self) -> int:
        """Consecutive examples of one user that stay together in a batch."""
        if self.config.sampler in ("in_batch", "mixed") and not self.is_full:
            return 1  # the correction for sampling supposes a batch of independent positives
        if self.config.network.history == "average":
            return EXAMPLES_PER_RUN
        return self.trained.query_encoder.encoder.config.num_watches - self._min_watches + 1

    @property
    def _min_watches(self) -> int:
        """Newest watches that self-attention is sure to see in training, where there are so many.

        Serving sees all; here a run of examples shares one pass, whose first ones see fewer.
        """
        return max(1, self.trained.query_encoder.encoder.config.num_watches // 8)

    def num_examples(self, chosen: Indices) -> int:
        """How many examples a batch has."""
        return len(chosen)

    def step(self, chosen: Indices, *, learning_rate: float) -> torch.Tensor:
        """One step of gradient descent; the batch's mean loss before it."""
        for_negatives, for_skips, own = torch.randint(LARGEST_SEED, (3,)).tolist()
        self.generator.manual_seed(for_negatives)
        if not len(chosen):
            return torch.zeros((), device=self.model.device)
        skipped = self._skipped(len(chosen), seed=for_skips)
        share = self.group.share(len(chosen))
        examples = self.examples[chosen]
        item_rows = examples.item_rows.astype(np.int64)
        if self.group.size > 1:
            examples = examples[share.part]
        rows = torch.from_numpy(item_rows).to(self.model.device)
        if not self.model.training:  # as going through all modules takes a while
            self.model.train()
        with self.group.own_draws(own):
            with self._autocast():
                vectors = user_vectors(
                    self.model,
                    self.trained.query_encoder,
                    examples.history,
                    examples.queries,
                    self._age_days(examples),
                    skipped=None if skipped is None else skipped[share.part],
                    min_watches=self._min_watches,
                )
            loss = self._loss(vectors.float(), rows, share.part)
        mean = self.descent.step(loss, share.weight, learning_rate=learning_rate)
        self.sampler.observe(rows)
        return mean

    def validate(self) -> Mapping[str, float]:
        """Recall@50 and NDCG@10 of the held-out watches, if there are any."""
        if self.held_out is None:
            return {}
        ranks = ranks_of(
            self.trained, self.held_out, mask_watched=self.mask_watched, group=self.group
        )
        return {
            "recall_at_50": float(recall_at_k(ranks, 50).mean()),
            "ndcg_at_10": float(ndcg_at_k(ranks, 10).mean()),
        }

    def identity(self) -> Mapping[str, Any]:
        """Config and data: what a resumed training must have in common with the one before."""
        encoder, examples = self.trained.query_encoder.encoder, self.examples
        data = digest(encoder, examples.history, examples.events, self.held_out, self.mask_watched)
        return {"config": config_to_table(self.config), "data": data}

    def state(self) -> Arrays:
        """Moments of the optimisers and what the sampler has counted."""
        counted = prefixed("sampler/", tensor_arrays(self.sampler.state()))
        return {**self.descent.state(), **counted}

    def load_state(self, state: Arrays) -> None:
        """The inverse of `state`."""
        self.descent.load_state(state)
        self.sampler.load_state(array_tensors(under("sampler/", state)))

    def sharded(self) -> Collection[str]:
        """Tables of more rows than each worker should hold."""
        return tuple(sharded_arrays(self.model))

    def _age_days(self, examples: WatchExamples) -> Floats:
        match self.config.network.example_age:
            case "publication":
                return examples.item_age_days
            case "log_end":
                return examples.example_age_days
            case "none":
                return np.zeros(len(examples), np.float32)

    def _skipped(self, num_examples: int, *, seed: int) -> Indices | None:
        mean = self.config.skipped_watches
        if mean == 0:
            return None
        draws = np.random.default_rng(seed)
        skipped: NDArray[np.int64] = draws.geometric(1 / (1 + mean), num_examples) - 1
        return skipped

    def _loss(self, vectors: torch.Tensor, batch: torch.Tensor, part: slice) -> torch.Tensor:
        """The mean over this worker's part of the batch, whose positives are rows `batch` [B]."""
        item_vectors, precision = self.model.item_vectors, self.precision
        rows = batch[part]
        if self.is_full:
            num_rows = self.model.item_table.num_rows
            every_row = torch.arange(NUM_RESERVED_ROWS, num_rows, device=rows.device)
            return full_softmax_loss(
                vectors,
                item_vectors(every_row),
                positive_rows=rows - NUM_RESERVED_ROWS,
                precision=precision,
            )
        drawn = self.sampler.draw(batch, self.generator)
        together = item_vectors(torch.cat([rows, drawn.rows]))
        positives, negatives = torch.split(together, [len(rows), len(drawn.rows)])
        match self.config.loss:
            case "noise_contrastive":
                return noise_contrastive_loss(
                    vectors,
                    positives,
                    negatives,
                    positive_rows=rows,
                    negative_rows=drawn.rows,
                    positive_log_expected=self.sampler.log_expected(rows),
                    negative_log_expected=drawn.log_expected,
                    precision=precision,
                )
            case "negative_sampling":
                return negative_sampling_loss(
                    vectors,
                    positives,
                    negatives,
                    positive_rows=rows,
                    negative_rows=drawn.rows,
                    precision=precision,
                )
            case _:
                is_classic = not self.config.corrected_log_q
                return sampled_softmax_loss(
                    vectors,
                    positives,
                    negatives,
                    positive_rows=rows,
                    negative_rows=drawn.rows,
                    negative_log_expected=drawn.log_expected,
                    positive_log_expected=self.sampler.log_expected(rows) if is_classic else None,
                    precision=precision,
                )

    def _autocast(self) -> AbstractContextManager[None]:
        device = self.model.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16")
