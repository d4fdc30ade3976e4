"""Compute precision of training passes."""

from __future__ import annotations

import pytest
import torch

from paretofit.search.training.step import Precision, autocast_dtype, grad_scaler


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", None), ("float32", None), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_dtype_on_cpu(precision: Precision, dtype: torch.dtype | None) -> None:
    cpu = torch.device("cpu")
    assert autocast_dtype(precision, cpu) is dtype
    assert grad_scaler(dtype, cpu).is_enabled() == (dtype is torch.float16)


@pytest.mark.gpu
def test_auto_is_bfloat16_on_supporting_gpus() -> None:
    computes = torch.cuda.is_bf16_supported(including_emulation=False)
    assert autocast_dtype("auto", torch.device("cuda")) is (torch.bfloat16 if computes else None)
