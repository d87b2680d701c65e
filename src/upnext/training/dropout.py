"""Dropout that draws sixteen bits an entry."""

import torch
from torch import nn

BITS = 16


class Dropout(nn.Module):
    """In training each entry is 0 with probability `share`, to 1/65,536; the others grow, so that
    means stay. `nn.Dropout`, which draws each entry apart, takes several times as long on a CPU.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.num_dropped = min(round(share * 2**BITS), 2**BITS - 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values of any shape and precision; unchanged outside of training."""
        if not (self.training and self.num_dropped):
            return values
        num_words = -(-values.numel() // (64 // BITS))
        words = torch.empty(num_words, dtype=torch.int64, device=values.device)
        bits = words.random_(-(2**63), None).view(torch.int16)[: values.numel()]
        is_kept = bits.view(values.shape) >= self.num_dropped - 2 ** (BITS - 1)
        scale: torch.Tensor = is_kept.to(values.dtype).mul_(2**BITS / (2**BITS - self.num_dropped))
        return values * scale
