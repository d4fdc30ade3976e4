"""Prepares a network to run on a device. Weights are random, because they do not affect latency, except in networks
with masks that depend on learned weights."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from paretofit.core.cpus import available_cpus
from paretofit.models.architecture import Architecture
from paretofit.models.build import Network, build
from paretofit.models.kinds.aggregation import aggregations
from paretofit.models.kinds.sampling import sampled_blocks
from paretofit.models.layers.fast_scale_aggregation import fast
from paretofit.models.layers.sparse import break_even, sparse
from paretofit.models.layers.spatial_sampling import samplings
from paretofit.models.trace import Size
from paretofit.search.contracts.latency import Device
from paretofit.search.contracts.point import Format
from paretofit.search.export.fold import folded
from paretofit.search.export.network import exportable
from paretofit.search.export.session import open_session
from paretofit.search.export.write import write
from paretofit.search.latency.clock import Run

_FORMATS: Final[dict[str, Format]] = {"onnxruntime": "onnx", "ncnn": "ncnn"}
_TURNS: Final = 8
"""Seconds for choosing the faster of two forms."""


class Sample(NamedTuple):
    """A trained network in evaluation mode, and representative images [N, C, H, W], which it runs on one after
    another."""

    network: Network
    images: Tensor


def prepare(
    architecture: Architecture, size: Size, batch: int, device: Device, folder: Path, sample: Sample | None = None
) -> Run:
    """A pass of a batch that returns once the result is computed. Batch norm is folded into the convolutions.

    In torch, a network with masks runs in its sparse form if that is faster, on the images of its `sample`; without one
    its masks sample as many positions as its densities say. A network with scale aggregations runs in its faster form.
    Other runtimes compute all positions, and the published form, which they run as fast.

    `folder` is an empty one for the runtime's files. On torch's CPU the caller sets the threads. Raises the runtime's
    exceptions for a network that it cannot run.
    """
    if device.runtime == "torch":
        network, images = sample or untrained(architecture, size, batch)
        return _torch(network.to(device.kind), torch.split(images.to(device.kind), batch))
    source = exportable(build(architecture).eval(), size, batch=batch)
    path = folder / "network"
    write(source, _FORMATS[device.runtime], path)
    session = open_session(path, _FORMATS[device.runtime], device.threads or available_cpus())
    given = source.example(batch).numpy()
    return lambda: session(given)


def untrained(architecture: Architecture, size: Size, batch: int) -> Sample:
    """Random weights and images; masks that sample as many positions as their densities say."""
    network = build(architecture).eval()
    for mask in samplings(network):
        # The logits are the bias.
        bias = torch.logit(torch.tensor([mask.density]), eps=1e-6)
        mask.predict.bias = nn.Parameter(bias)
    return Sample(network, torch.randn(batch, architecture.channels, *size))


def _torch(network: Network, images: Sequence[Tensor]) -> Run:
    batches = [batch.contiguous(memory_format=torch.channels_last) for batch in images]
    dense = folded(network)
    convert_conv2d_weight_memory_format(dense, torch.channels_last)
    forms = [_pass(dense, batches)]
    if sampled_blocks(network.architecture):
        forms.append(_pass(sparse(network, break_even(network, batches[0])), batches))
    if aggregations(network.architecture):
        forms.append(_pass(folded(fast(network, batches[0])), batches))
    return _fastest(forms) if len(forms) > 1 else forms[0]


def _fastest(forms: Sequence[Run]) -> Run:
    """By the minimum time of each, measured alternately."""
    least = [math.inf] * len(forms)
    for _ in range(_TURNS):
        for i, run in enumerate(forms):
            began = time.perf_counter()
            run()
            least[i] = min(least[i], time.perf_counter() - began)
    return forms[least.index(min(least))]


def _pass(network: Network, batches: Sequence[Tensor]) -> Run:
    following = cycle(batches)

    @torch.inference_mode()
    def run() -> None:
        batch = next(following)
        network(batch)
        if batch.is_cuda:
            torch.cuda.synchronize()

    return run
