"""In which numbers matrices are multiplied."""

from typing import Literal

import numpy as np
import torch

from upnext.training.group import ALONE, Group

Precision = Literal["auto", "float32", "bfloat16"]


def precision_on(
    precision: Precision, device: torch.device, group: Group = ALONE
) -> Literal["float32", "bfloat16"]:
    """The precision that `auto` means: bfloat16 where the hardware of every worker has it.

    All workers of a group ask, and are told the same: gradients that are added up should not be of
    two kinds.
    """
    match precision:
        case "float32" | "bfloat16":
            return precision
        case "auto":
            is_quick = group.gather(np.array([_is_quick(device)], np.uint8)).all()
            return "bfloat16" if is_quick else "float32"


def as_multiplied(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers as autocast has them multiplied, for whoever asks for more than one product."""
    device = tensor.device.type
    if not torch.is_autocast_enabled(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


def _is_quick(device: torch.device) -> bool:
    """Whether this machine multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16", False) or able.get("amx_bf16", False))
