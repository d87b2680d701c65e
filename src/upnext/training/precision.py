"""In which numbers matrices are multiplied."""

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def precision_on(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """The precision that `auto` means on a device: bfloat16 where it is in the hardware."""
    match precision:
        case "float32" | "bfloat16":
            return precision
        case "auto":
            if device.type == "cuda":
                return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
            able = torch.cpu.get_capabilities()
            is_quick = able.get("avx512_bf16", False) or able.get("amx_bf16", False)
            return "bfloat16" if is_quick else "float32"
