"""What every ranking network is given: one vector of the request, one of each candidate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from upnext.features.features import CANDIDATE_LEVELS, QUERY_LEVELS
from upnext.ranking.config import RankingNetworkConfig
from upnext.training.dropout import Dropout

Inputs = Mapping[str, torch.Tensor]
"""Levels of features, vectors of items, and the raw arrays that a network reads besides."""


@dataclass(frozen=True)
class Parts:
    """query [R, Q], candidate [M, I], and whose each candidate is; all inputs beside them.

    The candidate is in pieces, which stand side by side.
    """

    query: torch.Tensor
    candidate: tuple[torch.Tensor, ...]
    request_index: torch.Tensor
    inputs: Inputs


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of what a front is given: vectors of items, rows of context tables, levels of features."""

    item_vector: int
    contexts: Sequence[int]
    query_levels: int
    candidate_levels: int


class Front(nn.Module):
    """`Inputs` → `Parts`.

    It wants levels of features [R, ·] and [M, ·], context_rows [R, C], and the vectors of items,
    gathered before: item_vectors [M, E] of the candidates, and history_pooled, shown_pooled [R, E]
    of what was watched and shown.
    """

    def __init__(self, config: RankingNetworkConfig, sizes: Sizes) -> None:
        super().__init__()
        self.contexts = nn.ModuleList(
            nn.Embedding(size, config.context_embedding_size) for size in sizes.contexts
        )
        self.dropout = Dropout(config.dropout)
        context_size = config.context_embedding_size * len(sizes.contexts)
        self.query_size = 2 * sizes.item_vector + context_size + sizes.query_levels
        self.candidate_size = sizes.item_vector + sizes.candidate_levels

    def forward(self, inputs: Inputs) -> Parts:
        """The parts, every vector of items a little thinned out in training."""
        rows = inputs["context_rows"]
        contexts = [table(rows[:, place]) for place, table in enumerate(self.contexts)]
        past = [self.dropout(inputs["history_pooled"]), self.dropout(inputs["shown_pooled"])]
        return Parts(
            query=torch.cat([*past, *contexts, inputs[QUERY_LEVELS]], dim=1),
            candidate=(self.dropout(inputs["item_vectors"]), inputs[CANDIDATE_LEVELS]),
            request_index=inputs["request_index"],
            inputs=inputs,
        )


def fit_bias(bias: nn.Parameter, values: Sequence[float]) -> None:
    """Sets the bias of a network's outputs, so that training begins with the right mean."""
    with torch.no_grad():
        bias.copy_(torch.from_numpy(np.array(values, np.float32)))
