"""Wide & Deep: the MLP generalises, and weights of crossed ids remember exceptions."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from upnext.ranking.config import CROSSED_INPUTS, RankingNetworkConfig
from upnext.ranking.front import Inputs, Parts
from upnext.ranking.mlp import MlpNetwork

PRIME = 2**31 - 1
"""Hashes stay below it, so that no product leaves 63 bits in whatever runtime."""
MULTIPLIER = 1_103_515_245


class WideAndDeepNetwork(nn.Module):
    """Outputs of the MLP, plus for each declared cross the mean weight of its values.

        z = MLP + Σ_crosses Σ_{values v of the cross} w_{hash(v)} / √(number of v)

    A cross takes one value of each of its fields together; a field with several (tags, the past)
    makes the cross have several. Ids become weights by a hash into `num_cross_buckets`, computed
    in the graph. Pads and unknown ids make no value.

    Source: Cheng et al. 2016, "Wide & deep learning for recommender systems"; hashing: Weinberger
    et al. 2009.
    """

    reads: ClassVar[tuple[str, ...]] = tuple(CROSSED_INPUTS.values())

    def __init__(
        self,
        config: RankingNetworkConfig,
        context_names: Sequence[str],
        *,
        query_size: int,
        candidate_size: int,
        num_outputs: int,
    ) -> None:
        """`context_names`: the fields that the columns of context_rows are.

        Raises: ConfigError: a cross names no field, or fewer than two.
        """
        super().__init__()
        config.check_crosses(context_names)
        self.crosses, self.context_names = config.crosses, list(context_names)
        self.num_buckets = config.num_cross_buckets
        self.wide = nn.Parameter(torch.zeros(self.num_buckets, num_outputs))
        self.mlp = MlpNetwork(
            config, query_size=query_size, candidate_size=candidate_size, num_outputs=num_outputs
        )

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias that is added last to every output, [O]."""
        return self.mlp.output_bias

    def forward(self, parts: Parts) -> torch.Tensor:
        """Outputs [M, O]."""
        outputs: torch.Tensor = self.mlp(parts)
        for number, cross in enumerate(self.crosses):
            buckets, known = self.buckets(parts.inputs, number, cross)
            weight = (self.wide[buckets] * known[..., None]).sum(dim=1)
            outputs = outputs + weight * known.sum(dim=1, keepdim=True).clamp(min=1).rsqrt()
        return outputs

    def buckets(
        self, inputs: Inputs, number: int, cross: tuple[str, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Where each value of a cross is hashed to, and whether it is one: 2 × [M, V]."""
        hashes = torch.full_like(inputs["request_index"], number + 1)[:, None]
        known = torch.ones_like(hashes, dtype=torch.float32)
        for field in cross:
            values, are_known = self._values(inputs, field)
            mixed = (hashes * MULTIPLIER) % PRIME
            hashes = ((mixed[:, :, None] + values[:, None, :]) * MULTIPLIER % PRIME).flatten(1)
            known = (known[:, :, None] * are_known[:, None, :]).flatten(1)
        return hashes % self.num_buckets, known

    def _values(self, inputs: Inputs, field: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The values [M, V] of a field for each candidate, and whether they are known."""
        if field in self.context_names:
            column = inputs["context_rows"][:, self.context_names.index(field)]
            values = column[inputs["request_index"]].to(torch.int64)[:, None]
            return values, torch.ones_like(values, dtype=torch.float32)
        values = inputs[CROSSED_INPUTS[field]].to(torch.int64)
        if field.startswith("history_"):
            values = values[inputs["request_index"]]
        values = values[:, None] if values.ndim == 1 else values
        known = torch.ones_like(values) if field == "position" else values > 1
        return values, known.float()


class Ftrl(torch.optim.Optimizer):
    """Follow the regularised leader, coordinate by coordinate: AdaGrad's steps, and exact zeros.

        z ← z + g − (√(n + g²) − √n) / α · w        n ← n + g²
        w ← 0 if |z| ≤ λ, else −(z − sign(z) λ) α / (β + √n)

    Source: McMahan et al. 2013, "Ad click prediction: a view from the trenches", algorithm 1.
    """

    def __init__(
        self, params: Sequence[nn.Parameter], *, lr: float, l1: float, beta: float = 1.0
    ) -> None:
        super().__init__(params, {"lr": lr, "l1": l1, "beta": beta})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Moves every coordinate that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: torch.Tensor, group: dict[str, float]) -> None:
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if not state:
            state["z"], state["n"] = torch.zeros_like(weight), torch.zeros_like(weight)
        z, n, rate, l1 = state["z"], state["n"], group["lr"], group["l1"]
        grown = n + gradient.square()
        z += gradient - (grown.sqrt() - n.sqrt()) / rate * weight
        n.copy_(grown)
        shrunk = z.sign() * (z.abs() - l1).clamp(min=0)
        weight.copy_(-shrunk * rate / (group["beta"] + n.sqrt()))


def wide_optimizer(
    network: WideAndDeepNetwork, config: RankingNetworkConfig
) -> torch.optim.Optimizer:
    """What moves the weights of the crosses."""
    match config.wide_optimizer:
        case "ftrl":
            return Ftrl([network.wide], lr=config.wide_learning_rate, l1=config.wide_l1)
        case "adagrad":
            return torch.optim.Adagrad([network.wide], lr=config.wide_learning_rate)
