"""Names and shapes from safetensors headers, valid and malicious."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from paretofit.models.pretrained.header import MAX_TENSORS, Stored, read_shapes
from paretofit.models.pretrained.record import PretrainedError


def _file(path: Path, header: Any, size: int) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(size))
    return path


def _entry(shape: list[Any], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_header_has_shapes_dtypes_and_record(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.float16), "n": torch.tensor(1)}
    save_file(tensors, path, metadata={"paretofit": '{"kind": "weights"}', "format": "pt"})
    header = read_shapes(path)
    assert header.tensors == {"a": Stored((2, 3), "F32"), "b": Stored((4,), "F16"), "n": Stored((), "I64")}
    assert header.shapes["a"] == (2, 3)
    assert header.record == {"kind": "weights"}


@pytest.mark.parametrize("metadata", [None, {"paretofit": "{"}, {"paretofit": "[]"}, {"other": "1"}])
def test_foreign_files_have_no_record(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata=metadata)
    assert read_shapes(tmp_path / "w.safetensors").record is None


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"{", 0),
        (b"[]", 0),
        (b"null", 0),
        (b"[" * 100_000, 0),
        ({"a": 1}, 0),
        ({"a": _entry([2], 0, 4)}, 4),
        ({"a": _entry([2], 0, 8)}, 7),
        ({"a": _entry([2], 0, 8)}, 9),
        ({"a": _entry([2], 4, 12)}, 12),
        ({"a": _entry([2], 0, 8), "b": _entry([2], 0, 8)}, 16),
        ({"a": _entry([2], 0, 8), "b": _entry([1], 4, 8)}, 8),
        ({"a": _entry([-2], 0, 8)}, 8),
        ({"a": _entry([2.0], 0, 8)}, 8),
        ({"a": _entry([True], 0, 4)}, 4),
        ({"a": _entry([10**30], 0, 4)}, 4),
        ({"a": _entry([1] * 9, 0, 4)}, 4),
        ({"a": _entry([2], 8, 0)}, 8),
        ({"a": {"dtype": 3, "shape": [1], "data_offsets": [0, 4]}}, 4),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, 4),
        ({"a": {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]}}, 4),
        ({str(i): _entry([0], 0, 0) for i in range(MAX_TENSORS + 1)}, 0),
    ],
)
def test_damaged_files_are_rejected(tmp_path: Path, header: Any, size: int) -> None:
    with pytest.raises(PretrainedError):
        read_shapes(_file(tmp_path / "w.safetensors", header, size))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_known_errors(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    with contextlib.suppress(PretrainedError):
        read_shapes(path)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_arbitrary_header_changes_raise_only_known_errors(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: bytes
) -> None:
    content = bytearray(save({"a": torch.zeros(2, 3), "b": torch.zeros(1)}))
    content[at : at + len(change)] = change
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(content)
    with contextlib.suppress(PretrainedError):
        read_shapes(path)
