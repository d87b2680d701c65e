"""Features of logged impressions, computed once for all epochs by what serves."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from upnext.examples.encoder import Encoder
from upnext.examples.history import Indices
from upnext.examples.impressions import ImpressionExamples
from upnext.examples.ranking_inputs import RankingInputs
from upnext.features.features import CANDIDATE_LEVELS, QUERY_LEVELS
from upnext.ranking.manners import Seen, learn_manners
from upnext.ranking.model import RankingModel

REQUESTS_AT_ONCE = 128
REQUESTS_FOR_QUANTILES = 10_000
MOST_KEPT_BYTES = 4 << 30


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
        _, width = model.features.widths
        num_bytes = dtype.itemsize * width * len(examples.item_rows)
        fits = num_bytes <= MOST_KEPT_BYTES
        self._kept = self._all() if fits else None

    def of(
        self, raw: RankingInputs, requests: Indices, impressions: Indices
    ) -> dict[str, torch.Tensor]:
        """The levels of some requests and their impressions, as a network takes them."""
        of_queries, of_candidates = (
            self._computed(raw)
            if self._kept is None
            else (
                _lines(self._kept.of_queries, requests),
                _lines(self._kept.of_candidates, impressions),
            )
        )
        device = self._model.device
        return {
            QUERY_LEVELS: of_queries.to(device),
            CANDIDATE_LEVELS: of_candidates.to(device),
        }

    def _computed(self, raw: RankingInputs) -> tuple[torch.Tensor, torch.Tensor]:
        of_queries, of_candidates = map(torch.from_numpy, self._model.features.levels(raw))
        return of_queries.to(self._dtype), of_candidates.to(self._dtype)

    def _all(self) -> KeptLevels:
        examples, widths = self._examples, self._model.features.widths
        kept = KeptLevels(
            torch.empty(examples.num_requests, widths[0], dtype=self._dtype),
            torch.empty(len(examples.item_rows), widths[1], dtype=self._dtype),
        )
        for start in range(0, examples.num_requests, REQUESTS_AT_ONCE):
            end = min(start + REQUESTS_AT_ONCE, examples.num_requests)
            raw, chosen = examples.inputs(self._encoder, np.arange(start, end))
            of_queries, of_candidates = self._computed(raw)
            kept.of_queries[start:end] = of_queries
            kept.of_candidates[torch.from_numpy(chosen)] = of_candidates
        return kept


def _lines(array: torch.Tensor, places: Indices) -> torch.Tensor:
    return array.index_select(0, torch.from_numpy(places))


def fit_features(
    model: RankingModel,
    encoder: Encoder,
    examples: ImpressionExamples,
    generator: np.random.Generator,
) -> None:
    """Learns channels' manners, and then the scales of all features on a sample of requests."""
    manners = model.features.manners
    if manners is not None:
        sizes = {"num_channels": len(manners.vectors), "num_tags": int(manners.num_tags[0])}
        seen = Seen.of(examples, encoder.catalogue, **sizes)
        if len(seen.watched):
            manners = learn_manners(seen, manners.size, **sizes)
    features = replace(model.features, manners=manners)
    count = min(REQUESTS_FOR_QUANTILES, examples.num_requests)
    sample = np.sort(generator.choice(examples.num_requests, count, replace=False))
    of_queries, of_candidates = [], []
    for start in range(0, count, REQUESTS_AT_ONCE):
        raw, _ = examples.inputs(encoder, sample[start : start + REQUESTS_AT_ONCE])
        queries, candidates = features.raw(raw)
        of_queries.append(queries)
        of_candidates.append(candidates)
    model.features = features.fitted(
        np.concatenate(of_queries, axis=1), np.concatenate(of_candidates, axis=1)
    )
