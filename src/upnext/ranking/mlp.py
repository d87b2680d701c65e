"""The paper's ranking network: query part plus item part, then fully connected layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from upnext.config import require
from upnext.ranking.features import (
    CANDIDATE_FEATURES,
    QUERY_FEATURES,
    Inputs,
    Quantiles,
    candidate_features,
    query_features,
)


@dataclass(frozen=True, kw_only=True)
class RankingNetworkConfig:
    """Sizes of the ranking network."""

    hidden_sizes: tuple[int, ...] = (256, 128, 64)
    """Layers, widest first; none makes a logistic regression."""
    embedding_scale: float = 2.0
    """An id space of n rows gets vectors of embedding_scale · log2(n) entries."""
    context_embedding_size: int = 8
    """Size of the embeddings of hour, weekday and user features."""

    def __post_init__(self) -> None:
        at_least = {"hidden_sizes": 1, "context_embedding_size": 1}
        require("ranking.network", self, at_least=at_least, above={"embedding_scale": 0})

    def embedding_size(self, num_rows: int) -> int:
        """Vector size of an id space, proportional to the log of its size.

        >>> RankingNetworkConfig(embedding_scale=2.0).embedding_size(1024)
        20
        """
        return max(1, round(self.embedding_scale * math.log2(num_rows)))


class MlpNetwork(nn.Module):
    """Raw inputs → logits [M].

    The first layer is linear in [query ; candidate], so that its query part is computed once per
    request and added to each of the request's candidates.
    """

    def __init__(
        self,
        config: RankingNetworkConfig,
        *,
        item_size: int,
        channel_size: int,
        tag_size: int,
        context_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.contexts = nn.ModuleList(
            nn.Embedding(size, config.context_embedding_size) for size in context_sizes
        )
        self.candidate_quantiles = Quantiles(len(CANDIDATE_FEATURES))
        self.query_quantiles = Quantiles(len(QUERY_FEATURES))
        query_width = (
            item_size
            + channel_size
            + config.context_embedding_size * len(context_sizes)
            + 3 * len(QUERY_FEATURES)
        )
        item_width = item_size + channel_size + tag_size + 3 * len(CANDIDATE_FEATURES)
        first, *others = *config.hidden_sizes, 1
        self.query_layer = nn.Linear(query_width, first)
        self.item_layer = nn.Linear(item_width, first, bias=False)
        layers: list[nn.Module] = []
        width = first
        for size in others:
            layers += [nn.ReLU(), nn.Linear(width, size)]
            width = size
        self.layers = nn.Sequential(*layers)

    @property
    def output_bias(self) -> torch.Tensor:
        """The bias that is added last to every logit, [1]."""
        last = self.layers[-1] if len(self.layers) else self.query_layer
        assert isinstance(last, nn.Linear)
        return last.bias

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Logits [M]; e^z is the expected watch time."""
        query_part = self.query_layer(self.query_input(inputs))
        item_part = self.item_layer(self.item_input(inputs))
        logits: torch.Tensor = self.layers(query_part[inputs["request_index"]] + item_part)
        return logits[:, 0]

    def query_input(self, inputs: Inputs) -> torch.Tensor:
        """[R, Q]: what does not depend on the candidate."""
        filled = (inputs["history_rows"] > 1).float()
        count = filled.sum(dim=1, keepdim=True).clamp(min=1.0)
        rows = inputs["context_rows"]
        return torch.cat(
            [
                inputs["history_item_vectors"].sum(dim=1) / count,
                inputs["history_channel_vectors"].sum(dim=1) / count,
                *(table(rows[:, place]) for place, table in enumerate(self.contexts)),
                self.query_quantiles(query_features(inputs)),
            ],
            dim=1,
        )

    def item_input(self, inputs: Inputs) -> torch.Tensor:
        """[M, I]: the candidate, and the user's past with it."""
        num_tags = (inputs["tag_rows"] > 1).float().sum(dim=1, keepdim=True).clamp(min=1.0)
        return torch.cat(
            [
                inputs["item_vectors"],
                inputs["channel_vectors"],
                inputs["tag_vectors"].sum(dim=1) / num_tags,
                self.candidate_quantiles(candidate_features(inputs)),
            ],
            dim=1,
        )
