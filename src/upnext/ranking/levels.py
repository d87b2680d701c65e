"""Features of logged impressions, computed once for all epochs by the very graph that serves."""

from dataclasses import dataclass

import numpy as np
import torch

from upnext.examples.encoder import Encoder
from upnext.examples.history import Indices
from upnext.examples.impressions import RANKING_INPUTS, ImpressionExamples, RankingInputs
from upnext.ranking.front import CANDIDATE_LEVELS, QUERY_LEVELS
from upnext.ranking.manners import Seen, learn_manners
from upnext.ranking.model import RankingModel

REQUESTS_AT_ONCE = 128
REQUESTS_FOR_QUANTILES = 10_000
MOST_KEPT_BYTES = 4 << 30

FEATURE_INPUTS = tuple(name for name in RANKING_INPUTS if name != "context_rows")
"""The raw arrays that features are computed from."""


@dataclass(frozen=True)
class KeptLevels:
    """Every feature made comparable, of requests [R, ·] and of impressions [M, ·]."""

    of_queries: torch.Tensor
    of_candidates: torch.Tensor


class Levels:
    """The normalised features of some examples, kept where they fit, or else computed again.

    They depend on no weight, so a training that computed them at every epoch would only lose time.
    They are kept in the numbers that matrices are multiplied in, where they would end anyway.
    """

    def __init__(
        self,
        model: RankingModel,
        encoder: Encoder,
        examples: ImpressionExamples,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._model, self._encoder, self._examples = model, encoder, examples
        self._dtype = dtype
        width = model.scoring.front.num_candidate_levels
        num_bytes = dtype.itemsize * width * len(examples.item_rows)
        fits = num_bytes <= MOST_KEPT_BYTES
        self._kept = self._all() if fits else None

    def of(
        self, raw: RankingInputs, requests: Indices, impressions: Indices
    ) -> dict[str, torch.Tensor]:
        """The levels of some requests and their impressions, as a network takes them."""
        if self._kept is None:
            return self._computed(raw)
        model, kept = self._model, self._kept
        return {
            QUERY_LEVELS: _lines(kept.of_queries, requests).to(model.device),
            CANDIDATE_LEVELS: _lines(kept.of_candidates, impressions).to(model.device),
        }

    def _computed(self, raw: RankingInputs) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            inputs = self._model.tensors(raw, *FEATURE_INPUTS)
            levels = self._model.scoring.front.levels(inputs)
        of_queries, of_candidates = (one.to(self._dtype) for one in levels)
        return {QUERY_LEVELS: of_queries, CANDIDATE_LEVELS: of_candidates}

    def _all(self) -> KeptLevels:
        examples, front = self._examples, self._model.scoring.front
        kept = KeptLevels(
            torch.empty(examples.num_requests, front.num_query_levels, dtype=self._dtype),
            torch.empty(len(examples.item_rows), front.num_candidate_levels, dtype=self._dtype),
        )
        for start in range(0, examples.num_requests, REQUESTS_AT_ONCE):
            end = min(start + REQUESTS_AT_ONCE, examples.num_requests)
            raw, chosen = examples.inputs(self._encoder, np.arange(start, end))
            levels = self._computed(raw)
            kept.of_queries[start:end] = levels[QUERY_LEVELS]
            kept.of_candidates[torch.from_numpy(chosen)] = levels[CANDIDATE_LEVELS].cpu()
        return kept


def _lines(array: torch.Tensor, places: Indices) -> torch.Tensor:
    return array.index_select(0, torch.from_numpy(places))


def fit_features(
    model: RankingModel,
    encoder: Encoder,
    examples: ImpressionExamples,
    generator: np.random.Generator,
) -> None:
    """Learns channels' manners, and then the quantiles of all features on a sample of requests."""
    liking = model.scoring.front.liking
    if liking is not None:
        sizes = {"num_channels": liking.num_channels, "num_tags": liking.num_tags}
        seen = Seen.of(examples, encoder.catalogue, **sizes)
        if len(seen.watched):
            liking.fit(learn_manners(seen, liking.size, **sizes))
    _fit_quantiles(model, encoder, examples, generator)


def _fit_quantiles(
    model: RankingModel,
    encoder: Encoder,
    examples: ImpressionExamples,
    generator: np.random.Generator,
) -> None:
    count = min(REQUESTS_FOR_QUANTILES, examples.num_requests)
    sample = np.sort(generator.choice(examples.num_requests, count, replace=False))
    of_queries, of_candidates = [], []
    with torch.inference_mode():
        for start in range(0, count, REQUESTS_AT_ONCE):
            raw, _ = examples.inputs(encoder, sample[start : start + REQUESTS_AT_ONCE])
            queries, candidates = model.scoring.front.features(model.tensors(raw, *FEATURE_INPUTS))
            of_queries.append(queries.cpu().numpy())
            of_candidates.append(candidates.cpu().numpy())
    model.scoring.front.fit(np.concatenate(of_queries), np.concatenate(of_candidates))
