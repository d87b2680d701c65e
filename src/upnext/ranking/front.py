"""What every ranking network is given: one vector of the request, one of each candidate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from upnext.ranking.config import RankingNetworkConfig
from upnext.ranking.features import (
    CANDIDATE_FEATURES,
    QUERY_FEATURES,
    Inputs,
    candidate_features,
    query_features,
)
from upnext.ranking.liking import LIKING_FEATURES, Liking
from upnext.ranking.quantiles import Scaled
from upnext.schema import Floats
from upnext.training.dropout import Dropout

QUERY_LEVELS, CANDIDATE_LEVELS = "query_levels", "candidate_levels"
"""Inputs that stand for the features where these were computed before, as training does once."""


@dataclass(frozen=True)
class Parts:
    """query [R, Q], candidate [M, I], and whose each candidate is; the raw inputs beside them.

    The candidate is in pieces, which stand side by side.
    """

    query: torch.Tensor
    candidate: tuple[torch.Tensor, ...]
    request_index: torch.Tensor
    inputs: Inputs


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of what a front is given: vectors of items, rows of context tables, sources, vocabularies."""

    item_vector: int
    contexts: Sequence[int]
    sources: int
    channels: int
    tags: int


class Front(nn.Module):
    """Raw inputs → `Parts`.

    Beside the raw arrays it wants the vectors of items, gathered outside the graph: item_vectors
    [M, E] of the candidates, and history_pooled, shown_pooled [R, E] of what was watched and shown.
    """

    def __init__(self, config: RankingNetworkConfig, sizes: Sizes) -> None:
        super().__init__()
        self.powers, self.num_sources = config.powers, sizes.sources
        self.num_channels, self.num_tags = sizes.channels, sizes.tags
        self.contexts = nn.ModuleList(
            nn.Embedding(size, config.context_embedding_size) for size in sizes.contexts
        )
        num_of_candidates = len(CANDIDATE_FEATURES) + sizes.sources
        self.liking: Liking | None = None
        if config.manner_size:
            self.liking = Liking(
                config.manner_size, num_channels=sizes.channels, num_tags=sizes.tags
            )
            num_of_candidates += len(LIKING_FEATURES)
        self.candidate_scale = Scaled(num_of_candidates, logs=config.logs)
        self.query_scale = Scaled(len(QUERY_FEATURES), logs=config.logs)
        self.dropout = Dropout(config.dropout)
        powers = 2 if config.powers else 0
        self.num_query_levels = self.query_scale.width + powers * len(QUERY_FEATURES)
        self.num_candidate_levels = self.candidate_scale.width + powers * num_of_candidates
        context_size = config.context_embedding_size * len(sizes.contexts)
        self.query_size = 2 * sizes.item_vector + context_size + self.num_query_levels
        self.candidate_size = sizes.item_vector + self.num_candidate_levels

    def fit(self, of_queries: Floats, of_candidates: Floats) -> None:
        """Takes the quantiles of training values [n, Fq] and [m, F], as `features` gives them."""
        self.query_scale.fit(of_queries)
        self.candidate_scale.fit(of_candidates)

    def features(self, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw values of all features: of requests [R, Fq] and of candidates [M, F]."""
        of_candidates = candidate_features(
            inputs, num_channels=self.num_channels, num_tags=self.num_tags
        )
        if self.liking is not None:
            of_candidates = torch.cat([of_candidates, self.liking(inputs)], dim=1)
        return query_features(inputs), of_candidates

    def levels(self, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """All features made comparable, with powers: of requests [R, ·], of candidates [M, ·]."""
        if CANDIDATE_LEVELS in inputs:
            return inputs[QUERY_LEVELS], inputs[CANDIDATE_LEVELS]
        of_queries, of_candidates = self.features(inputs)
        of_queries, of_candidates = (
            self.query_scale(of_queries),
            self.candidate_scale(of_candidates),
        )
        if not self.powers:
            return of_queries, of_candidates
        with_powers = self.candidate_scale.with_powers(of_candidates)
        return self.query_scale.with_powers(of_queries), with_powers

    def forward(self, inputs: Inputs) -> Parts:
        """The parts, every vector of items a little thinned out in training."""
        of_queries, of_candidates = self.levels(inputs)
        rows = inputs["context_rows"]
        contexts = [table(rows[:, place]) for place, table in enumerate(self.contexts)]
        past = [self.dropout(inputs["history_pooled"]), self.dropout(inputs["shown_pooled"])]
        return Parts(
            query=torch.cat([*past, *contexts, of_queries], dim=1),
            candidate=(self.dropout(inputs["item_vectors"]), of_candidates),
            request_index=inputs["request_index"],
            inputs=inputs,
        )


def fit_bias(bias: nn.Parameter, values: Sequence[float]) -> None:
    """Sets the bias of a network's outputs, so that training begins with the right mean."""
    with torch.no_grad():
        bias.copy_(torch.from_numpy(np.array(values, np.float32)))
