from __future__ import annotations

import errno
from pathlib import Path

import pytest

from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Trial
from paretofit.workers.trainer import failure, is_out_of_memory, read_order, write_order
from tests.db.rows import PROFILE


class OutOfMemoryError(RuntimeError):
    """Has the same name as the error of torch."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to ..."
        ),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_out_of_memory_errors_are_recognized(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), OSError(2, "no")]
)
def test_other_errors_are_not_out_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


class NotLearningError(ValueError):
    code = "not_learning"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotLearningError("14 % after 200 steps"), "not_learning"),
        (ValueError("no"), "error"),
        (MemoryError(), "oom"),
        (OutOfMemoryError("CUDA out of memory"), "oom"),
    ],
)
def test_failure_has_the_code_of_its_error(error: Exception, code: str) -> None:
    assert failure(error)["code"] == code
    assert failure(error)["detail"] == (str(error) or type(error).__name__)


def test_out_of_memory_error_of_torch_is_recognized() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_order_file_round_trips(tmp_path: Path) -> None:
    spec = ResolvedSpec.model_validate(
        {"name": "n", "dataset_id": "d", "method": {"kind": "mutualnet"}, "dataset": PROFILE}
    )
    trial = Trial(
        number=3,
        spec=spec,
        params={"stage": "train"},
        dataset=tmp_path / "dataset",
        work=tmp_path / "work",
        device="cuda",
        seed=7,
        inputs={"supernet": tmp_path / "supernet"},
        checkpoint=tmp_path / "checkpoint",
        batch_scale=0.5,
    )
    write_order(tmp_path / "order.json", trial)
    assert read_order(tmp_path / "order.json") == trial
