"""A network with sampled blocks in the form that saves time: by positions on CPUs, by tiles on GPUs."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Final, Literal

import torch
from torch import Tensor, nn

from paretofit.models.blocks import ConvUnit, MaxPool
from paretofit.models.build import Network
from paretofit.models.layers.folded_residual import (
    RESIDUAL,
    BlockKey,
    Choice,
    FoldedResidual,
    FoldedUnit,
    Key,
    Table,
    extent,
    key,
)
from paretofit.models.layers.masked_residual import MaskedBlock, share
from paretofit.models.layers.rows import Convolution
from paretofit.models.layers.sparse_sampling import SparseBlock
from paretofit.models.layers.spatial_sampling import Sampled, size_of
from paretofit.models.layers.tiled_sampling import TiledBlock

Form = Literal["positions", "tiles"]
NO_TABLE: Final[Table] = {}
DENSITIES: Final = (0.2, 0.5, 0.8)
"""Densities at which convolutions and blocks are measured."""
REPEATS: Final = 11


def sparse(network: Network, table: Table = NO_TABLE, form: Form | None = None) -> Network:
    """A copy for evaluation that computes sampled blocks where their masks are 1, and the others in their fastest dense
    form.

    Unset, `form` is `tiles` for a network on a GPU, else `positions`. `table` has the density up to which a convolution
    is faster sparse than dense (measured by `break_even`; unset: .9). Blocks whose convolutions have groups do not
    change. Raises ValueError for a network in training mode or with another precision than float32.
    """
    if network.training:
        raise ValueError("the network is in training mode: call eval() first")
    if others := {each.dtype for each in network.parameters()} - {torch.float32}:
        raise ValueError(f"the sparse form is for float32 only, not {others.pop()}: call float() first")
    form = form or _usual(next(network.parameters()))
    found: list[nn.Module] = []
    nonnegative = False
    for block in copy.deepcopy(network.blocks):
        found.append(_faster(block, table, form, nonnegative=nonnegative))
        nonnegative = _is_nonnegative(block, before=nonnegative)
    if isinstance(found[0], FoldedResidual):
        # It must not modify the images.
        found[0].changes_input = False
    made = Network(network.architecture, found)
    made.record = network.record
    # In-place operations have no gradients.
    return made.eval().requires_grad_(requires_grad=False)


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
    """Size of a block's output; `before`: of its input."""
    body = block.body if isinstance(block, Sampled) else block
    if isinstance(body, MaxPool):
        return before
    act = getattr(body, "act", None)
    return isinstance(act, nn.ReLU)


@torch.inference_mode()
def break_even(network: Network, images: Tensor, form: Form | None = None) -> dict[Key | BlockKey, Choice]:
    """Measures each convolution of the residual blocks and each block with masks on its input for `images` [N, C, H,
    W], with torch's current threads: the density up to which it is faster at random positions (or tiles) than
    everywhere, and the faster dense form. A first convolution together with its masks' predictors gets only the form.
    `form` as in `sparse`."""
    found: dict[Key | BlockKey, Choice] = {}
    x = images
    # Its blocks use the earlier measurements.
    for block in sparse(network, found, form or _usual(images)).blocks:
        # With one channel both memory formats are the same, so a convolution's output may be in either.
        x = x.contiguous(memory_format=torch.channels_last)
        if isinstance(block, FoldedResidual):
            _measure(block, x, found)
        x = block(x)
    return found


def _usual(reference: Tensor) -> Form:
    return "tiles" if reference.is_cuda else "positions"


def _measure(block: FoldedResidual, x: Tensor, found: dict[Key | BlockKey, Choice]) -> None:
    """Add the missing measurements of a block with input `x` to `found`."""
    given = x
    for index, conv in enumerate(block.convolutions()):
        if conv is block.shortcut:
            given = x
        name = key(conv, extent(given))
        if name not in found:
            found[name] = Choice(product=conv.kernel == 1 and _product(block, conv, given))
            if isinstance(block, MaskedBlock) and index < 2:
                even = _of_convolution(block, index, given)
                found[name] = replace(found[name], break_even=even)
        given = torch.rand_like(block.everywhere(conv, given))
    if isinstance(block, MaskedBlock) and block.zero and block.key(extent(x)) not in found:
        if block.joint is not None:
            found[key(block.joint, extent(x))] = Choice(product=_product(block, block.joint, x))
        found[block.key(extent(x))] = Choice(break_even=_of_block(block, x))


def _product(block: FoldedResidual, conv: Convolution, x: Tensor) -> bool:
    """Whether a 1 x 1 convolution is faster as a matrix product; a third one includes the addition."""
    if conv is block.third:
        total = torch.zeros_like(block.everywhere(conv, x))
        runs = [partial(block.expanded, total, x, None, product=each) for each in (False, True)]
    else:
        runs = [partial(conv.everywhere, x, product=each) for each in (False, True)]
    plain, _ = _relative(runs, cuda=x.is_cuda)
    return plain >= 1


def _of_convolution(block: MaskedBlock, index: int, x: Tensor) -> float:
    """Key of the first (0) or the second (1) convolution."""
    masks = [_mask(block, index, x, density, block.grain) for density in DENSITIES]
    sparse_ways, dense_ways = zip(*(block.ways(index, x, mask) for mask in masks), strict=True)
    *seconds, _ = _relative([*sparse_ways, dense_ways[-1]], cuda=x.is_cuda)
    return _crossing([share(mask) for mask in masks], seconds)


def _of_block(block: MaskedBlock, x: Tensor) -> float:
    inner = torch.empty(len(x), 1, *(-(-side // block.first.stride) for side in size_of(x)), device=x.device)
    drawn = [[_mask(block, 0, x, density), _mask(block, 1, inner, density)] for density in DENSITIES]
    # Blocks modify their input. The masks that are computed have another density.
    runs = [lambda masks=masks: (block.masks(x), block.on(x.clone(), masks)) for masks in drawn]
    *seconds, _ = _relative([*runs, lambda: block.whole(x.clone())], cuda=x.is_cuda)
    return _crossing([block.density([share(mask) for mask in masks]) for masks in drawn], seconds)


def _mask(block: MaskedBlock, index: int, x: Tensor, density: float, grain: int = 1) -> Tensor:
    """A random mask of the output of the first (0) or the second (1) convolution, by squares of `grain` or more."""
    drawing = copy.copy(block.masks.samplings[0])
    drawing.draw, drawing.density, drawing.grid, drawing.tile = "budget", density, 0, max(grain, drawing.tile)
    stride = block.convolutions()[index].stride
    return drawing.hard(torch.randn(len(x), 1, *(-(-side // stride) for side in size_of(x)), device=x.device))


def _crossing(densities: Sequence[float], seconds: Sequence[float]) -> float:
    """The density at which `seconds` reaches 1, linearly interpolated between measurements, and extrapolated along the
    last line."""
    even = 0.0
    for (low, fast), (high, slow) in pairwise(zip(densities, seconds, strict=True)):
        # With few tiles two densities give the same number.
        if high > low:
            even = low + (1 - fast) * (high - low) / max(slow - fast, 1e-12)
        if slow >= 1:
            break
    return min(1.0, max(0.0, even))


def _relative(runs: Sequence[Callable[[], object]], *, cuda: bool) -> list[float]:
    """The median time of each relative to the last one's in the same turn, because a machine's speed varies."""
    turns: list[list[float]] = []
    for _ in range(REPEATS + 1):
        seconds: list[float] = []
        for run in runs:
            began = time.perf_counter()
            run()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        turns.append([each / seconds[-1] for each in seconds])
    # The first turn is a warm-up.
    return [statistics.median(each) for each in zip(*turns[1:], strict=True)]
