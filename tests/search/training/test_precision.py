"""What passes are computed in."""

from __future__ import annotations

import pytest
import torch

from paretofit.search.training.step import Precision, autocast_dtype, grad_scaler


@pytest.mark.parametrize(
    ("given", "dtype"),
    [("auto", None), ("float32", None), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_on_a_cpu(given: Precision, dtype: torch.dtype | None) -> None:
    cpu = torch.device("cpu")
    assert autocast_dtype(given, cpu) is dtype
    assert grad_scaler(dtype, cpu).is_enabled() == (dtype is torch.float16)


@pytest.mark.gpu
def test_auto_is_bfloat16_where_the_gpu_computes_it() -> None:
    computes = torch.cuda.is_bf16_supported(including_emulation=False)
    assert autocast_dtype("auto", torch.device("cuda")) is (torch.bfloat16 if computes else None)
