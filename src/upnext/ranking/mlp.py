"""The paper's ranking network: query part plus item part, then fully connected layers."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from upnext.ranking.config import RankingNetworkConfig
from upnext.ranking.front import Parts


class MlpNetwork(nn.Module):
    """Parts → outputs [M, O].

    The first layer is linear in [query ; candidate], so that its query part is computed once per
    request and added to each of the request's candidates. Beside the layers, `factors` > 0 adds

        Σ_k (A query)_k (B candidate)_k

    to each output: layers learn sums of what they are told quickly, and products slowly.

    Source: Covington, Adams, Sargin 2016, section 4; the product is that of Rendle 2010,
    "Factorization machines".
    """

    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        config: RankingNetworkConfig,
        *,
        query_size: int,
        candidate_size: int,
        num_outputs: int,
    ) -> None:
        super().__init__()
        first, *others = *config.hidden_sizes, num_outputs
        self.query_layer = nn.Linear(query_size, first)
        self.candidate_layer = nn.Linear(candidate_size, first, bias=False)
        layers: list[nn.Module] = []
        width = first
        for size in others:
            layers += [nn.ReLU(), nn.Linear(width, size)]
            width = size
        self.layers = nn.Sequential(*layers)
        self.num_outputs, self.num_factors = num_outputs, config.factors
        if config.factors:
            width = config.factors * num_outputs
            self.query_factors = nn.Linear(query_size, width)
            self.candidate_factors = nn.Linear(candidate_size, width, bias=False)

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias that is added last to every output, [O]."""
        last = self.layers[-1] if len(self.layers) else self.query_layer
        assert isinstance(last, nn.Linear)
        return last.bias

    def forward(self, parts: Parts) -> torch.Tensor:
        """Outputs [M, O]."""
        return self.outputs(parts.query, parts.candidate, parts.request_index)

    def outputs(
        self, query: torch.Tensor, candidate: Sequence[torch.Tensor], request_index: torch.Tensor
    ) -> torch.Tensor:
        """Outputs [M, O] of query [R, Q] and candidate [M, I], in pieces."""
        first = self.query_layer(query).index_select(0, request_index)
        first = added_of_pieces(first, self.candidate_layer, candidate)
        outputs: torch.Tensor = self.layers(first)
        if not self.num_factors:
            return outputs
        of_query = self.query_factors(query).index_select(0, request_index)
        nothing = torch.zeros_like(of_query)
        products = of_query * added_of_pieces(nothing, self.candidate_factors, candidate)
        by_output: torch.Tensor = products.unflatten(1, (self.num_outputs, self.num_factors))
        return outputs + by_output.sum(dim=2)


def added_of_pieces(
    start: torch.Tensor, layer: nn.Linear, pieces: Sequence[torch.Tensor]
) -> torch.Tensor:
    """[M, O] start + what a layer without bias makes of vectors that stand side by side.

    In training they are not put there: each is multiplied with its own columns of the weights, so
    that the product for the gradient of those that learn nothing is not made.
    """
    if torch.compiler.is_exporting() or not torch.is_grad_enabled():
        return torch.addmm(start, torch.cat([*pieces], dim=1), layer.weight.T)
    columns = torch.split(layer.weight, [piece.shape[1] for piece in pieces], dim=1)
    for piece, own in zip(pieces, columns, strict=True):
        start = torch.addmm(start, piece, own.T)
    return start
