"""Trained weights to start from: a weights file, or the checkpoint of a point.

Every tensor of the backbone must exist with the shape of the file's network, or the file is rejected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.build import build
from paretofit.models.checkpoint import CheckpointError
from paretofit.models.header import file_sha256
from paretofit.models.pretrained.record import PretrainedError, WeightsRecord

COUNTER: Final = "num_batches_tracked"
NAMED: Final = 3
"""Tensors of each kind that an error lists."""


@dataclass(frozen=True, slots=True)
class Start:
    """Trained weights: a weights file, or the checkpoint of a point.

    `tensors` are float32, on the CPU, without batch counters. `class_names` are those of the classifier; None if they
    are unknown, or without a classifier. `mean` and `std` are per channel, for values in [0, 1]. `record` is the
    file's.
    """

    architecture: Architecture
    tensors: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None
    sha256: str
    record: dict[str, Any]

    @property
    def weights(self) -> WeightsRecord | None:
        """The record of a weights file; None for a point."""
        return WeightsRecord.model_validate(self.record) if self.record.get("kind") == "weights" else None


def start_of(path: Path) -> Start:
    """The weights in a weights file or in a point's checkpoint. Raises PretrainedError for any other file, and for one
    whose tensors do not match its architecture; OSError for a missing file."""
    try:
        tensors, record = checkpoint.read(path)
    except CheckpointError as error:
        raise PretrainedError(
            f"{error} Convert the file with `paretofit weights add`, or take the checkpoint of a point."
        ) from error
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    try:
        if record.get("kind") == "weights":
            weights = WeightsRecord.model_validate(record)
            architecture, mean, std, names = weights.architecture(), weights.mean, weights.std, weights.class_names
            headless = weights.classes is None
        else:
            architecture = Architecture.from_json(record.get("architecture", {}))
            mean, std = (tuple(map(float, record["preprocessing"][name])) for name in ("mean", "std"))
            names, headless = tuple(record["classes"]), False
    except (KeyError, TypeError, ValueError) as error:
        raise PretrainedError(
            f"{path.name} has an invalid record; give a weights file or a point's checkpoint: {error}"
        ) from error
    expected = tensor_shapes(architecture)
    if headless:
        head = head_prefix(architecture)
        expected = {name: shape for name, shape in expected.items() if not name.startswith(head)}
    check_tensors(
        path.name,
        missing=[name for name in expected if name not in tensors],
        extra=[name for name in tensors if name not in expected],
        shapes={
            name: (expected[name], tuple(tensor.shape))
            for name, tensor in tensors.items()
            if name in expected and tuple(tensor.shape) != expected[name]
        },
        remedy="the file is damaged or was edited: convert the original again",
    )
    return Start(
        architecture=architecture,
        tensors={name: tensor.float() for name, tensor in tensors.items()},
        mean=mean,
        std=std,
        class_names=names,
        sha256=file_sha256(path),
        record=record,
    )


def check_tensors(
    what: str,
    missing: Sequence[str],
    extra: Sequence[str],
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
    remedy: str,
) -> None:
    """Raises PretrainedError with the first of each kind. `shapes`: required and given."""
    differing = [f"{name} {list(there)} instead of {list(here)}" for name, (here, there) in shapes.items()]
    kinds = {"missing": missing, "not in the network": extra, "of another shape": differing}
    found = [
        f"{len(names)} {kind} ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})"
        for kind, names in kinds.items()
        if names
    ]
    if found:
        raise PretrainedError(f"{what} do not fit: {'; '.join(found)}. {remedy[0].upper()}{remedy[1:]}.")


def tensor_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the network except batch counters."""
    state = build(architecture, "meta").state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(COUNTER)}


def head_prefix(architecture: Architecture) -> str:
    """Prefix of the classifier's tensor names."""
    return f"blocks.{len(architecture.blocks) - 1}."
