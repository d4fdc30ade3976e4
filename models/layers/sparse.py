"""A network with sampled blocks in the form that saves time: on CPUs by positions, on GPUs by tiles."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from functools import partial
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
from models.layers.tiled_sampling import SIDE, TiledBlock, Tiles

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
    if network.training:
        raise ValueError("a network in training mode has no sparse form: call eval() first")
    form = form or _usual(next(network.parameters()))
    found: list[nn.Module] = []
    nonnegative = False
    for block in copy.deepcopy(network.blocks):
        found.append(_faster(block, table, form, nonnegative=nonnegative))
        nonnegative = _is_nonnegative(block, before=nonnegative)
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


def _is_nonnegative(block: nn.Module, *, before: bool) -> bool:
    """Of a block's output; `before`: of its input."""
    body = block.body if isinstance(block, Sampled) else block
    if isinstance(body, MaxPool):
        return before
    act = getattr(body, "act", None)
    return isinstance(act, nn.ReLU)


@torch.inference_mode()
def break_even(network: Network, images: Tensor, form: Form | None = None) -> dict[Key, Choice]:
    """For each convolution of the residual blocks on what reaches it of `images` [N, C, H, W], with torch's present threads:
    up to which density it is faster at random places than everywhere, and which dense form is faster. `form` as in `sparse`."""
    found: dict[Key, Choice] = {}
    form = form or _usual(images)
    x = images.contiguous(memory_format=torch.channels_last)
    for block in sparse(network, form=form).blocks:
        if isinstance(block, FoldedResidual):
            height, width = x.shape[-2:]
            for conv in block.convolutions():
                if conv is block.shortcut:
                    height, width = x.shape[-2:]
                like = len(x), height, width
                if key(conv, like) not in found:
                    found[key(conv, like)] = _measured(conv, like, form)
                height, width = -(-height // conv.stride), -(-width // conv.stride)
        x = block(x)
    return found


def _usual(reference: Tensor) -> Form:
    return "tiles" if reference.is_cuda else "positions"


def _measured(conv: Convolution, like: tuple[int, int, int], form: Form) -> Choice:
    count, height, width = like
    x = conv.matrix.new_empty(count, conv.weight.shape[1], height, width).uniform_()
    x = x.contiguous(memory_format=torch.channels_last)
    runs = [
        partial(conv.everywhere, x, product=product) for product in ((False, True) if conv.kernel == 1 else (False,))
    ]
    at = _at_tiles if form == "tiles" else _at_positions
    *dense, low, high = _least([*runs, *(at(conv, x, density) for density in DENSITIES)], cuda=x.is_cuda)
    slope = max((high - low) / (DENSITIES[1] - DENSITIES[0]), 1e-12)
    even = DENSITIES[0] + (min(dense) - low) / slope
    return Choice(break_even=min(1.0, max(0.0, even)), product=len(dense) > 1 and dense[1] <= dense[0])


def _at_positions(conv: Convolution, x: Tensor, density: float) -> Callable[[], object]:
    like = len(x), x.shape[-2], x.shape[-1]
    number = round(density * len(rows(x)) / conv.stride**2)
    positions = torch.randperm(len(rows(x)), device=x.device)[:number].sort().values
    padded, target = Padded(like, x, x.shape[1]), Padded(like, x, conv.weight.shape[0])

    def run() -> None:
        gathered = rows(x).index_select(0, positions) if conv.kernel == 1 else padded.neighbours(positions)
        target.put(positions, F.relu_(conv.of(gathered)))

    return run


def _at_tiles(conv: Convolution, x: Tensor, density: float) -> Callable[[], object]:
    height, width = (-(-side // conv.stride) for side in x.shape[-2:])
    chosen = x.new_empty(len(x), 1, -(-height // SIDE), -(-width // SIDE)).uniform_() < density
    mask = F.interpolate(chosen.to(x.dtype), scale_factor=SIDE, mode="nearest")[:, :, :height, :width]

    def run() -> None:
        tiles = Tiles.of(mask, SIDE)
        tiles.scatter(F.relu_(conv.everywhere(tiles.gather(x, conv), product=False, padding=0)))

    return run


def _least(runs: Sequence[Callable[[], object]], *, cuda: bool) -> list[float]:
    """Seconds, by turns."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(REPEATS + 1):
        for run, taken in zip(runs, seconds, strict=True):
            began = time.perf_counter()
            run()
            if cuda:
                torch.cuda.synchronize()
            if turn:
                taken.append(time.perf_counter() - began)
    return [min(each) for each in seconds]
