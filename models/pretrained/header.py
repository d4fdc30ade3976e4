"""The tensors of a safetensors file, from its header alone. Torch-free, and safe on any file.

Format: a length, a JSON object, the tensors' bytes (github.com/huggingface/safetensors, README).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from paretofit.models.header import METADATA_KEY, CheckpointError, read_header
from paretofit.models.pretrained.record import PretrainedError

FLOATS: Final = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
"""Types of weights that are converted to float32, with their size in bytes."""
_BYTES: Final = {**FLOATS, "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8}
MAX_TENSORS: Final = 20_000
MAX_DIMENSIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file; `dtype` as safetensors spells it, such as F32."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Header:
    """Contents of a safetensors file's header. `record` is Paretofit's, if the file has one."""

    tensors: dict[str, Stored]
    record: dict[str, Any] | None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: stored.shape for name, stored in self.tensors.items()}


def read_shapes(path: Path | str) -> Header:
    """Names, shapes and types of a safetensors file's tensors, without reading them.

    Raises PretrainedError unless the tensors fill the file exactly, each with the bytes of its shape; OSError for a
    missing file.
    """
    name = Path(path).name
    try:
        header, size = read_header(path)
    except CheckpointError as error:
        raise PretrainedError(f"{error}; give a safetensors file") from error
    metadata = header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise PretrainedError(
            f"{name} has {len(header)} tensors, more than {MAX_TENSORS}: use the weights of a vision network"
        )
    tensors: dict[str, Stored] = {}
    spans: list[tuple[int, int]] = []
    for key, entry in header.items():
        found = _stored(entry)
        if found is None:
            raise PretrainedError(
                f"{name} is damaged: its header does not describe the tensor {key[:80]!r}; copy it again"
            )
        tensors[key], span = found
        spans.append(span)
    ends = [0, *sorted(stop for _, stop in spans)]
    if sorted(start for start, _ in spans) != ends[:-1] or ends[-1] != size:
        raise PretrainedError(f"{name} is truncated or damaged: its tensors do not fill the file; copy it again")
    return Header(tensors, _record(metadata))


def _stored(entry: Any) -> tuple[Stored, tuple[int, int]] | None:
    """One tensor's entry in the header, with the range of its bytes; None if it is invalid."""
    if not isinstance(entry, dict) or not isinstance(dtype := entry.get("dtype"), str):
        return None
    shape, span = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if shape is None or len(shape) > MAX_DIMENSIONS or span is None or len(span) != 2 or span[0] > span[1]:
        return None
    if dtype in _BYTES and span[1] - span[0] != math.prod(shape) * _BYTES[dtype]:
        return None
    return Stored(shape, dtype), (span[0], span[1])


def _counts(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or any(type(number) is not int or not 0 <= number < 2**62 for number in value):
        return None
    return tuple(value)


def _record(metadata: Any) -> dict[str, Any] | None:
    try:
        record = json.loads(metadata[METADATA_KEY])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
