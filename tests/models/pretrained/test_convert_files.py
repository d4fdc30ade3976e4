"""Conversion of safetensors and PyTorch files: converted completely or rejected, without executing pickles."""

from __future__ import annotations

import hashlib
import os
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from paretofit.models.pretrained.convert import convert, convert_tensors
from paretofit.models.pretrained.record import PretrainedError
from tests.models.pretrained.conversion import DIGEST, assert_same, expected_tensors


def test_safetensors_file_is_converted(small: dict[str, Tensor], tmp_path: Path, target: Path) -> None:
    source = tmp_path / "mine.safetensors"
    save_file(small, source)
    record = convert(source, target, licence="CC0-1.0", source_name="my own", class_names=list("abcde"))
    assert record.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (record.licence, record.source, record.class_names) == ("CC0-1.0", "my own", ("a", "b", "c", "d", "e"))
    assert_same(target, expected_tensors(small, tmp_path))
    assert convert(source, target).source == "mine.safetensors"
    assert convert(source, target).licence == "not stated"


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("resnet50_swsl-1c2d3e4f.safetensors", {}),
        ("mine.safetensors", {"licence": "CC-BY-NC-4.0"}),
        ("mine.safetensors", {"source_name": "fb_swsl"}),
    ],
)
def test_non_commercial_weights_need_confirmation(
    name: str, params: dict[str, Any], small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    save_file(small, tmp_path / name)
    with pytest.raises(PretrainedError, match=r"non-commercial use only.*--allow-non-commercial"):
        convert(tmp_path / name, target, **params)
    assert not target.exists()
    record = convert(tmp_path / name, target, **params, allow_non_commercial=True)
    assert record.licence == params.get("licence", "not stated")
    if "licence" in params:
        # The record of a weights file keeps the restriction, whatever the file name.
        target.rename(tmp_path / "again")
        with pytest.raises(PretrainedError, match="non-commercial use only"):
            convert(tmp_path / "again", target)


@pytest.mark.parametrize(
    "nest",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda w: {"model": w},
        lambda w: {"model": {"state_dict": w, "name": "v2"}},
        lambda w: {"state_dict": {f"module.{name}": tensor for name, tensor in w.items()}},
        lambda w: {"state_dict": _changed(w), "state_dict_ema": w},
        lambda w: {
            "model": _changed(w),
            "model_ema": {"n_averaged": torch.tensor(9), **{f"module.{k}": v for k, v in w.items()}},
        },
        lambda w: {"state_dict": _changed(w), "state_dict_ema": None, "model_ema": {"state_dict": w}},
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_pytorch_file_is_converted(
    nest: Callable[[dict[str, Tensor]], Any], legacy: bool, small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    source = tmp_path / "weights.pth"
    nested = nest(small)
    torch.save(nested, source, _use_new_zipfile_serialization=not legacy)
    record = convert(source, target)
    assert_same(target, expected_tensors(small, tmp_path))
    averaged = "state_dict_ema" in nested or "model_ema" in nested
    assert any("averaged" in note for note in record.notes) == averaged


def _changed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor + 1 for name, tensor in weights.items()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_to_float32(
    dtype: torch.dtype, small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    source = tmp_path / "half.safetensors"
    save_file({name: t.to(dtype) if t.is_floating_point() else t for name, t in small.items()}, source)
    convert(source, target)
    rounded = {name: t.to(dtype).float() if t.is_floating_point() else t for name, t in small.items()}
    assert_same(target, expected_tensors(rounded, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.to(torch.int8), "has the type int8, not floating point: give weights that are not quantized"),
        (lambda t: t.index_fill(0, torch.tensor([0]), float("nan")), "not finite"),
        (lambda t: t.double() * 1e300, "not finite in float32"),
    ],
)
def test_non_finite_weights_are_rejected(
    change: Callable[[Tensor], Tensor], message: str, small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    source = tmp_path / "odd.safetensors"
    save_file(small | {"features.0.0.weight": change(small["features.0.0.weight"]).contiguous()}, source)
    with pytest.raises(PretrainedError, match=f"features.0.0.weight .*{message}"):
        convert(source, target)
    assert not target.exists()


def test_negative_variance_is_rejected(small: dict[str, Tensor], target: Path) -> None:
    odd = small | {"features.0.1.running_var": -small["features.0.1.running_var"]}
    with pytest.raises(PretrainedError, match="running_var has a negative variance"):
        convert_tensors(odd, target, sha256=DIGEST, source_name="weights")


class MakesFolder:
    """Creates a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("how", "name"),
    [("namespace", "argparse.Namespace"), ("numpy", "numpy._core.multiarray.scalar"), ("code", "posix.mkdir")],
)
def test_blocked_pickle_globals_are_named_and_not_executed(
    how: str, name: str, legacy: bool, small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    source, folder = tmp_path / "run.pth", tmp_path / "folder"
    extra = {"namespace": Namespace(lr=0.1), "numpy": np.float64(0.5), "code": MakesFolder(folder)}[how]
    torch.save({"state_dict": small, "args": extra}, source, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(PretrainedError) as caught:
        convert(source, target)
    text = str(caught.value)
    assert name in text
    assert "was not loaded" in text
    first, second = (line.strip() for line in text.splitlines()[1:3])
    assert first == "weights = torch.load('run.pth', map_location='cpu', weights_only=False)['state_dict']"
    assert second.startswith("safetensors.torch.save_file(")
    assert not folder.exists()
    assert not target.exists()


def test_suggested_conversion_script_works(
    small: dict[str, Tensor], tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs the two lines that the error message suggests."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "run.pth"
    torch.save({"state_dict": small, "args": Namespace(lr=0.1)}, source)
    with pytest.raises(PretrainedError) as caught:
        convert(source, target)
    program = "\n".join(line.strip() for line in str(caught.value).splitlines()[1:3])
    exec(f"import torch, safetensors.torch\n{program}")  # The lines come from the message itself.
    convert(tmp_path / "weights.safetensors", target)
    assert_same(target, expected_tensors(small, tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither a safetensors file nor a PyTorch state dict"),
        (b"PK\x03\x04 no archive", "neither a safetensors file nor a PyTorch state dict"),
        (b"\x80\x02}q\x00.", "has no tensors|neither"),
        (pickle.dumps([1, 2]), "neither|instead of a state dict"),
        ((40).to_bytes(8, "little") + b"{" + b" " * 39, "neither a safetensors file|not a safetensors file"),
    ],
)
def test_unsupported_file_types_are_rejected(content: bytes, message: str, tmp_path: Path, target: Path) -> None:
    source = tmp_path / "odd.pth"
    source.write_bytes(content)
    with pytest.raises(PretrainedError, match=message):
        convert(source, target)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([torch.zeros(1)], "contains a list instead of a state dict"),
        (torch.zeros(1), "contains a Tensor instead of a state dict"),
        ({"epoch": 3}, "no tensors at the known keys .it has epoch."),
    ],
)
def test_pytorch_files_without_state_dict_are_rejected(saved: Any, message: str, tmp_path: Path, target: Path) -> None:
    torch.save(saved, tmp_path / "odd.pth")
    with pytest.raises(PretrainedError, match=message):
        convert(tmp_path / "odd.pth", target)


def test_content_counts_and_not_the_file_extension(small: dict[str, Tensor], tmp_path: Path, target: Path) -> None:
    source = tmp_path / "mine.safetensors"
    torch.save(small, source)
    convert(source, target)
    assert_same(target, expected_tensors(small, tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"PK\3\4 not PyTorch's", b"\0" * 7 + b"\x40{}", (500).to_bytes(8, "little") + b'{"a": ']
)
def test_damaged_safetensors_files_are_rejected(content: bytes, tmp_path: Path, target: Path) -> None:
    source = tmp_path / "damaged.safetensors"
    source.write_bytes(content)
    with pytest.raises(PretrainedError, match=r"damaged\.safetensors is neither a safetensors file nor a PyTorch"):
        convert(source, target)
    assert not target.exists()


def test_missing_file_is_rejected(tmp_path: Path, target: Path) -> None:
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "none.pth", target)


def test_old_torch_versions_reject_pickles(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(PretrainedError, match=r"CVE-2025-32434\): update it to 2\.6"):
        convert(tmp_path / "a.pth", target)
