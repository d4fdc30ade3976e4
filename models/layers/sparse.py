"""A network with sampled blocks in the form that saves time: on CPUs by positions, on GPUs by tiles."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import ConvUnit, MaxPool
from models.build import Network
from models.layers.folded_residual import RESIDUAL, Choice, FoldedResidual, FoldedUnit, Key, Table, key
from models.layers.rows import Convolution, Padded, rows
from models.layers.sparse_sampling import SparseBlock
from models.layers.spatial_sampling import Sampled
from models.layers.tiled_sampling import TiledBlock

Form = Literal["positions", "tiles"]
NO_TABLE: Final[Table] = MappingProxyType({})
DENSITIES: Final = (0.2, 0.8)
"""That a convolution is measured at: its time is a line between them."""
REPEATS: Final = 5


def sparse(network: Network, table: Table = NO_TABLE, form: Form | None = None) -> Network:
    """A copy for evaluation that computes sampled blocks where their masks say, and the others in their fastest dense form.
    Unset, `form` is `tiles` for a network on a GPU, else `positions`. `table` tells up to which density a convolution is faster
    so than everywhere (`break_even` measures it; unset: .9).

    Blocks whose convolutions have groups stay as they are. Raises ValueError for a network in training mode.
    """
    if form is None:
        form = "tiles" if next(network.parameters()).is_cuda else "positions"
    if network.training:
        raise ValueError("a network in training mode has no sparse form: call eval() first")
    found: list[nn.Module] = []
    nonnegative = False
    for block in copy.deepcopy(network.blocks):
        found.append(_faster(block, table, form, nonnegative=nonnegative))
        nonnegative = _is_nonnegative(block, nonnegative)
    if isinstance(found[0], FoldedResidual):
        # The images are not its own to change.
        found[0].changes_input = False
    made = Network(network.architecture, found)
    made.record = network.record
    return made.eval()


def _faster(block: nn.Module, table: Table, form: Form, *, nonnegative: bool) -> nn.Module:
    if isinstance(block, Sampled) and not _grouped(block.body):
        if form == "tiles":
            return TiledBlock(block, table)
        return SparseBlock(block, table, nonnegative=nonnegative)
    if isinstance(block, RESIDUAL) and not _grouped(block):
        return FoldedResidual(block, table)
    return FoldedUnit(block) if isinstance(block, ConvUnit) else block


def _grouped(body: nn.Module) -> bool:
    return any(module.groups > 1 for module in body.modules() if isinstance(module, nn.Conv2d))


def _is_nonnegative(block: nn.Module, before: bool) -> bool:  # noqa: FBT001
    """Of a block's output."""
    body = block.body if isinstance(block, Sampled) else block
    if isinstance(body, MaxPool):
        return before
    act = getattr(body, "act", None)
    return isinstance(act, nn.ReLU)


@torch.inference_mode()
def break_even(network: Network, images: Tensor) -> dict[Key, Choice]:
    """For each convolution of the residual blocks on what reaches it of `images` [N, C, H, W], with torch's present threads:
    up to which density it is faster at random positions than everywhere, and which dense form is faster."""
    found: dict[Key, Choice] = {}
    x = images.contiguous(memory_format=torch.channels_last)
    for block in sparse(network).blocks:
        if isinstance(block, FoldedResidual):
            height, width = x.shape[-2:]
            for conv in block.convolutions():
                if conv is block.shortcut:
                    height, width = x.shape[-2:]
                like = len(x), height, width
                if key(conv, like) not in found:
                    found[key(conv, like)] = _measured(conv, like)
                height, width = -(-height // conv.stride), -(-width // conv.stride)
        x = block(x)
    return found


def _measured(conv: Convolution, like: tuple[int, int, int]) -> Choice:
    count, height, width = like
    x = torch.rand(count, conv.weight.shape[1], height, width).contiguous(memory_format=torch.channels_last)
    forms: list[Callable[[], Tensor]] = [lambda: conv.everywhere(x, product=False)]
    if conv.kernel == 1:
        forms.append(lambda: conv.everywhere(x, product=True))
    positions = count * height * width // conv.stride**2
    forms += [_gathering(conv, x, like, round(density * positions)) for density in DENSITIES]
    seconds = _least(forms)
    *dense, low, high = seconds
    slope = max((high - low) / (DENSITIES[1] - DENSITIES[0]), 1e-12)
    even = DENSITIES[0] + (min(dense) - low) / slope
    return Choice(break_even=min(1.0, max(0.0, even)), product=len(dense) > 1 and dense[1] <= dense[0])


def _gathering(conv: Convolution, x: Tensor, like: tuple[int, int, int], number: int) -> Callable[[], Tensor]:
    positions = torch.randperm(like[0] * like[1] * like[2])[:number].sort().values
    padded = Padded(like, x, x.shape[1])
    target = Padded(like, x, conv.weight.shape[0])

    def run() -> Tensor:
        gathered = rows(x).index_select(0, positions) if conv.kernel == 1 else padded.neighbours(positions)
        made = F.relu_(conv.of(gathered))
        target.put(positions, made)
        return made

    return run


def _least(forms: list[Callable[[], Tensor]]) -> list[float]:
    """Seconds, by turns."""
    seconds: list[list[float]] = [[] for _ in forms]
    for turn in range(REPEATS + 1):
        for form, taken in zip(forms, seconds, strict=True):
            began = time.perf_counter()
            form()
            if turn:
                taken.append(time.perf_counter() - began)
    return [min(each) for each in seconds]
