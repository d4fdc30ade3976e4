"""A network in one `.safetensors` file, with its record (a point as JSON) in the header. Never pickle.

Reading the record does not need torch.
"""

from __future__ import annotations

import json
import operator
import os
import secrets
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretofit.models.architecture import Architecture
from paretofit.models.finite import NonFiniteError
from paretofit.models.header import METADATA_KEY, read_header
from paretofit.models.header import CheckpointError as CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from paretofit.models.build import Network


def save(path: Path | str, network: Network, record: Mapping[str, Any]) -> None:
    """Write a network and its record atomically. Raises ValueError if the record's `architecture` differs,
    NonFiniteError for a tensor with infinite or NaN values."""
    if record.get("architecture") != network.architecture.to_json():
        raise ValueError("the record's architecture differs from the network's")
    if (name := first_nonfinite(network)) is not None:
        raise NonFiniteError(f"{name} has infinite or NaN values: the network is not saved")
    write(path, network.state_dict(), record)


def first_nonfinite(network: Network) -> str | None:
    """Name of the network's first tensor with an infinite or NaN value, or None. Synchronizes the host with the device
    once if all are finite."""
    tensors = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    flags = {name: tensor.isfinite().all() for name, tensor in tensors.items()}
    if reduce(operator.and_, flags.values()):
        return None
    return next(name for name, finite in flags.items() if not finite)


def write(path: Path | str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write named tensors and a JSON object atomically: a temporary file, synced, then renamed."""
    from safetensors.torch import save as serialise

    target = Path(path)
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = serialise(stored, metadata={METADATA_KEY: json.dumps(record, sort_keys=True, allow_nan=False)})
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(target.parent)


def read_record(path: Path | str) -> dict[str, Any]:
    """A checkpoint's record, from the header alone. Raises CheckpointError, and OSError for a missing file."""
    source = Path(path)
    header, _ = read_header(source)
    try:
        record = json.loads(header["__metadata__"][METADATA_KEY])
    except (ValueError, KeyError, TypeError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise CheckpointError(f"{source.name} has no Paretofit record: use a file that Paretofit wrote")
    return record


def read(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (in memory, on the CPU) and the record that `write` wrote. Raises CheckpointError, OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import load as deserialise

    record = read_record(path)
    try:
        tensors = deserialise(Path(path).read_bytes())
    except SafetensorError as error:
        raise CheckpointError(f"{Path(path).name} is damaged ({error}): copy it again") from error
    # Copied, because the file's alignment differs from torch's, and results of some kernels depend on it.
    return {name: tensor.clone() for name, tensor in tensors.items()}, record


def load(path: Path | str) -> Network:
    """The network on the CPU in evaluation mode, with its record as `.record`.

    Raises CheckpointError unless the file contains exactly the tensors of its own architecture, OSError for a missing
    file.
    """
    from paretofit.models.build import build

    name = Path(path).name
    tensors, record = read(path)
    try:
        network = build(Architecture.from_json(record.get("architecture", {})), "meta")
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from error
    expected = network.state_dict()
    if odd := sorted(set(tensors) ^ set(expected)):
        raise CheckpointError(
            f"{name}: {odd[0]} is {'missing' if odd[0] in expected else 'not a tensor of its network'}"
        )
    for key, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (expected[key].shape, expected[key].dtype):
            raise CheckpointError(
                f"{name}: {key} is {tuple(tensor.shape)} {tensor.dtype}, but its network's is "
                f"{tuple(expected[key].shape)} {expected[key].dtype}"
            )
    network.load_state_dict(tensors, assign=True)
    network.record = record
    return network.eval()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
