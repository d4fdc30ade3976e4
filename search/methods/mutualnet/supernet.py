"""The supernet, a trained network that runs at every width, as a file: safetensors with its architecture in the
record."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.build import Network
from paretofit.models.layers.slimmable import Slimmable
from paretofit.models.trace import Size

KIND = "supernet"


def save(path: Path, network: Slimmable) -> None:
    """Write the parameters, and the batch norm statistics of every calibrated (channel vector, input size)."""
    checkpoint.write(path, network.state(), {"kind": KIND, "architecture": network.architecture.to_json()})


def load(path: Path, device: torch.device | str = "cpu") -> Slimmable:
    """The network that `save` wrote, in evaluation mode, channels last. Raises ValueError for another file."""
    tensors, record = checkpoint.read(path)
    if record.get("kind") != KIND:
        raise ValueError(f"{path} is not a supernet: use the artifact of stage `train`")
    network = Slimmable(Architecture.from_json(record["architecture"]), device)
    network.load_state(tensors)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network.eval()


def extract(supernet: Path, architecture: Architecture, size: Size) -> Network:
    """Extract the narrower network from a supernet file, with its statistics at (height, width). Raises ValueError,
    UncalibratedError (LookupError)."""
    return load(supernet).extract(architecture, size)
