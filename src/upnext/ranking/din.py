"""Deep Interest Network: the past watches that a candidate is like count more than the others."""

from typing import ClassVar

import torch
from torch import nn

from upnext.ranking.config import RankingNetworkConfig
from upnext.ranking.front import Inputs, Parts, Sizes
from upnext.ranking.mlp import MlpNetwork

FACTS_OF_A_WATCH = 2
LONG_AGO = 20.0
"""About the log of the seconds in a year, twice over: ages become numbers between 0 and 1."""


class DinNetwork(nn.Module):
    """The MLP, given one more vector of each candidate: the past, weighed by that candidate.

        Σ_j a(h_j, c) h_j,    a = w · relu(W [h_j, c, h_j − c, h_j ⊙ c, share_j, age_j] + b)

    over the last watches h_j. Weights are not normalised, so that a strong liking stays strong.
    The first layer is linear, so its part of h_j is computed once per request, that of c once per
    candidate, and only that of h_j ⊙ c for each pair; h_j − c is in both already.

    Source: Zhou et al. 2018, "Deep interest network for click-through rate prediction".
    """

    reads: ClassVar[tuple[str, ...]] = (
        "history_vectors",
        "history_rows",
        "history_duration_s",
        "history_age_s",
        "history_watch_time_s",
    )

    def __init__(
        self,
        config: RankingNetworkConfig,
        sizes: Sizes,
        *,
        query_size: int,
        candidate_size: int,
        num_outputs: int,
    ) -> None:
        super().__init__()
        vector, width = sizes.item_vector, config.attention_size
        self.num_attended = config.attended_watches
        self.of_watch = nn.Linear(vector + FACTS_OF_A_WATCH, width)
        self.of_candidate = nn.Linear(vector, width, bias=False)
        self.of_pair = nn.Parameter(torch.randn(width, vector) * vector**-0.5)
        self.weigh = nn.Linear(width, 1)
        self.mlp = MlpNetwork(
            config,
            query_size=query_size,
            candidate_size=candidate_size + vector,
            num_outputs=num_outputs,
        )

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias that is added last to every output, [O]."""
        return self.mlp.output_bias

    def forward(self, parts: Parts) -> torch.Tensor:
        """Outputs [M, O]."""
        attended = self.attended(parts.inputs)
        return self.mlp.outputs(parts.query, (*parts.candidate, attended), parts.request_index)

    def attended(self, inputs: Inputs) -> torch.Tensor:
        """[M, E] the past of each candidate's request, weighed by the candidate."""
        last = slice(-self.num_attended, None)
        watched = inputs["history_vectors"][:, last]
        share = watch_share(inputs)[:, last]
        age = torch.log1p(inputs["history_age_s"][:, last]) / LONG_AGO
        told = self.of_watch(torch.cat([watched, share[..., None], age[..., None]], dim=2))
        known = (inputs["history_rows"][:, last] > 1).float()
        vectors, of_request = inputs["item_vectors"], inputs["request_index"]
        if not torch.compiler.is_exporting() and _are_alike(of_request, len(watched)):
            grouped = vectors.view(len(watched), -1, vectors.shape[1])
            return self._weighed(grouped, watched, told, known).flatten(0, 1)
        return self._weighed(
            vectors[:, None], watched[of_request], told[of_request], known[of_request]
        ).flatten(0, 1)

    def _weighed(
        self,
        candidates: torch.Tensor,
        watched: torch.Tensor,
        told: torch.Tensor,
        known: torch.Tensor,
    ) -> torch.Tensor:
        """[R, K, E] for K candidates [R, K, E] of each of R pasts [R, H, E], [R, H, A], [R, H].

        [H, E] @ [E, K A] says what h_j ⊙ c says, without ever holding the products.
        """
        num_requests, num_each = candidates.shape[:2]
        dtype = told.dtype  # under autocast that of short numbers, which products keep to
        # Spread by a product, the gradient is added up by one too, many times quicker than a sum.
        every = candidates.new_ones(num_requests * num_each, 1) @ self.of_pair.view(1, -1)
        spread = every.to(dtype).view(num_requests, num_each, *self.of_pair.shape)
        by_candidate = candidates.to(dtype)[:, :, None] * spread
        of_pairs = watched.to(dtype) @ by_candidate.flatten(1, 2).transpose(1, 2)
        of_pairs = of_pairs.view(num_requests, watched.shape[1], num_each, len(self.of_pair))
        of_candidates = self.of_candidate(candidates)[:, None]
        hidden = nn.functional.relu(of_pairs + told[:, :, None] + of_candidates)
        weights = self.weigh(hidden)[..., 0] * known[:, :, None].to(dtype)
        weighed: torch.Tensor = weights.transpose(1, 2) @ watched.to(dtype)
        return weighed


def watch_share(inputs: Inputs) -> torch.Tensor:
    """[R, H] as `features.watch_share` has it, for these networks' own graph."""
    duration_s = inputs["history_duration_s"]
    share = inputs["history_watch_time_s"] / duration_s.clamp(min=1.0)
    return torch.where(duration_s > 0, share, torch.ones_like(share)).clamp(max=1.0)


def _are_alike(request_index: torch.Tensor, num_requests: int) -> bool:
    """Whether the candidates stand request by request, as many of each."""
    num_each, rest = divmod(len(request_index), max(1, num_requests))
    if rest or not num_each:
        return False
    expected = torch.arange(num_requests, device=request_index.device)
    return torch.equal(request_index, expected.repeat_interleave(num_each))
