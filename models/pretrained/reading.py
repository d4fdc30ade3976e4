"""Reads the tensors in a file of published weights without executing any of its code.

PyTorch files are only read with `weights_only=True`; even so, do it on the user's machine or in a sandbox.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialize
from torch import Tensor

from paretofit.models.pretrained.header import read_shapes
from paretofit.models.pretrained.record import PretrainedError

NESTED: Final = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys of the weights in PyTorch files, averaged ones first."""
AVERAGED: Final = ("state_dict_ema", "model_ema")
LEAST_TORCH: Final = (2, 6)
"""In earlier versions `weights_only` can be bypassed (CVE-2025-32434)."""
_UNREADABLE: Final = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions of torch for files that it did not write."""


def is_safetensors(source: Path) -> bool:
    """Whether a file begins like a safetensors file: a length, then a JSON object."""
    with source.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= source.stat().st_size


def read_safetensors_file(source: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors, and Paretofit's record if the file has one. Raises PretrainedError."""
    header = read_shapes(source)
    try:
        return deserialize(source.read_bytes()), header.record
    except (SafetensorError, KeyError, ValueError) as error:
        raise PretrainedError(f"{source.name} is damaged: {error}; copy it again") from error


def read_pytorch_file(source: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict in a PyTorch file, and notes about its place in the file. Raises PretrainedError."""
    if _version(torch.__version__) < LEAST_TORCH:
        raise PretrainedError(
            f"torch {torch.__version__} reads PyTorch files unsafely (CVE-2025-32434): update it to 2.6 or newer"
        )
    try:
        # Opened here, because torch reads a path that ends in .safetensors as safetensors, whatever it contains.
        with warnings.catch_warnings(), source.open("rb") as file:
            # Warnings about other pickle protocols; the file is still read or rejected.
            warnings.simplefilter("ignore")
            content = torch.load(file, weights_only=True, map_location="cpu")
    except _UNREADABLE as error:
        raise _explain(source, error) from error
    notes: list[str] = []
    for _ in range(2):
        key = next((key for key in NESTED if isinstance(content, Mapping) and _is_mapping(content.get(key))), None)
        if key is None:
            break
        content = content[key]
        if key in AVERAGED:
            notes.append(f"the averaged weights of the file were taken ({key})")
    if not isinstance(content, Mapping):
        raise PretrainedError(
            f"{source.name} contains a {type(content).__name__} instead of a state dict: save "
            "`model.state_dict()`, not the model"
        )
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(sorted(map(str, content))[:5]) or "nothing"
        raise PretrainedError(
            f"{source.name} has no tensors at the known keys (it has {keys}): save `model.state_dict()` alone"
        )
    return tensors, notes


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0


def _explain(source: Path, error: BaseException) -> PretrainedError:
    """Why torch rejected a file, with the globals that it refused to import."""
    blocked = sorted(_blocked_globals(source, str(error)))
    if not blocked:
        return PretrainedError(
            f"{source.name} is neither a safetensors file nor a PyTorch state dict, or it is damaged; give one that "
            "was saved with safetensors.torch.save_file or torch.save(model.state_dict(), ...)"
        )
    return PretrainedError(
        f"{source.name} contains more than tensors and was not loaded: it requires {', '.join(blocked[:5])}. If "
        f"you trust it, convert it where it was created:\n  weights = torch.load({source.name!r}, "
        "map_location='cpu', weights_only=False)['state_dict']\n  "
        f"safetensors.torch.save_file({{k: v.contiguous() for k, v in weights.items()}}, "
        "'weights.safetensors')\n(without ['state_dict'] if the file contains the weights alone)"
    )


def _blocked_globals(source: Path, message: str) -> set[str]:
    try:
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(source))
    except _UNREADABLE:
        # Files of torch before 1.6.
        return set(re.findall(r"GLOBAL ([\w.]+)", message))
