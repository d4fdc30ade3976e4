"""The number format of the passes. Parameters, losses and the optimizer stay float32."""

from __future__ import annotations

from typing import Literal

import torch
from torch.amp.grad_scaler import GradScaler

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def resolve(precision: Precision, device: torch.device) -> torch.dtype | None:
    """What passes on a device are cast to; None: nothing is.

    `auto` is bfloat16 on GPUs that compute it; CPUs are left at float32, which AVX2 machines are faster in. Raises
    ValueError for a GPU without bfloat16 if that is asked for.
    """
    cuda_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    match precision:
        case "auto":
            return torch.bfloat16 if cuda_bfloat16 else None
        case "float32":
            return None
        case "bfloat16":
            if device.type == "cuda" and not cuda_bfloat16:
                raise ValueError("precision: this GPU has no bfloat16; use float16, float32 or auto")
            return torch.bfloat16
        case "float16":
            return torch.float16


def grad_scaler(dtype: torch.dtype | None, device: torch.device) -> GradScaler:
    """For float16, whose gradients would vanish unscaled; for any other it does nothing."""
    return GradScaler(device.type, enabled=dtype is torch.float16)
