"""A network, untrained, ready to run on a device: latency needs no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from cores import cores
from models.architecture import Architecture
from models.build import Network, build
from models.trace import Size
from search.export.fold import folded
from search.export.formats import Format
from search.export.network import exportable
from search.export.session import open_session
from search.export.write import write
from search.latency.clock import Run
from search.latency.devices import Device

_FORMATS: Final[dict[str, Format]] = {"onnxruntime": "onnx", "ncnn": "ncnn"}


def prepare(architecture: Architecture, size: Size, batch: int, device: Device, folder: Path) -> Run:
    """Make a pass of a batch: what it returns from has been computed. Normalisation is folded into the convolutions.

    `folder` is an empty one for the runtime's files. On torch's CPU the caller sets the threads. Raises what the runtime
    raises for a network that it cannot run.
    """
    network = build(architecture).eval()
    if device.runtime == "torch":
        return _torch(folded(network), size, batch, device)
    source = exportable(network, size, batch=batch)
    path = folder / "network"
    write(source, _FORMATS[device.runtime], path)
    session = open_session(path, _FORMATS[device.runtime], device.threads or cores())
    images = source.example(batch).numpy()
    return lambda: session(images)


def _torch(network: Network, size: Size, batch: int, device: Device) -> Run:
    network = network.to(device.kind)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    images = torch.randn(batch, network.architecture.channels, *size, device=device.kind)
    images = images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> None:
        network(images)
        if device.kind == "cuda":
            torch.cuda.synchronize()

    return run
