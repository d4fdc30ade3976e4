"""Residual blocks in evaluation with masks on their convolutions: shared by the forms that save time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.kinds.sampling import taken
from paretofit.models.layers.folded_residual import USUAL, FoldedResidual, Table, extent
from paretofit.models.layers.rows import Convolution, rows
from paretofit.models.layers.spatial_sampling import Sampled, Sampling


class Masks(nn.Module):
    """All masks of a block by one matrix product: a 3 x 3 convolution to one channel is 9 products with each pixel,
    which are added with offsets."""

    matrix: Tensor
    bias: Tensor

    def __init__(self, samplings: list[Sampling]) -> None:
        super().__init__()
        self.samplings = samplings
        weights = torch.cat([each.predict.weight.detach() for each in samplings])
        # [masks, C, 3, 3] -> [C, 9 masks]. A contribution to a neighbor belongs to the neighbor's opposite side.
        self.register_buffer("matrix", weights.flip(2, 3).permute(1, 0, 2, 3).flatten(1).contiguous())
        self.register_buffer("bias", torch.cat([cast("Tensor", each.predict.bias).detach() for each in samplings]))

    @property
    def fixed(self) -> bool:
        """Whether their densities are the same for all images."""
        return self.samplings[0].draw == "budget"

    @property
    def constant(self) -> bool:
        """Whether every position is computed for every image."""
        return self.fixed and all(each.density >= 1 for each in self.samplings)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, C, H, W] -> float32 [N, 1, H', W'] for each mask."""
        return self.drawn(rows(x.contiguous(memory_format=torch.channels_last)) @ self.matrix, extent(x))

    def drawn(self, products: Tensor, like: tuple[int, int, int]) -> list[Tensor]:
        """The same, from `products` [N * H * W, 9 masks], an input's rows times `matrix`. `like`: N, H and W."""
        count, height, width = like
        found = products.view(count, height * width, -1).transpose(1, 2)
        logits = F.fold(found, (height, width), kernel_size=3, padding=1) + self.bias[:, None, None]
        strides = (each.predict.stride[0] for each in self.samplings)
        return [
            each.hard(logits[:, i : i + 1, ::stride, ::stride])
            for i, (each, stride) in enumerate(zip(self.samplings, strides, strict=True))
        ]


class MaskedBlock(FoldedResidual):
    """A `Sampled` block with zeros elsewhere; masks denser than a measured break-even are computed everywhere."""

    def __init__(self, module: Sampled, table: Table) -> None:
        """Raises ValueError for convolutions with groups."""
        super().__init__(module.body, table)
        self.masks = Masks([cast("Sampling", each) for each in module.masks])
        fits = self.entry is None and self.first.kernel == 1 and module.fills is None
        self.joint = _joint(self.first, self.masks) if fits and self.masks.fixed else None
        """For masks whose densities are known before sampling."""

    def forward(self, x: Tensor) -> Tensor:
        if self.masks.constant:
            return super().forward(x)
        if not self.zero:
            return self.on(x, self.masks(x))
        even = self.table.get(self.key(extent(x)), USUAL).break_even
        if self.joint is not None:
            return self.whole(x) if self.density(self.budgets(extent(x))) > even else self.on(x, self.masks(x))
        masks = self.masks(x)
        return self.masked(x, masks) if self.density([share(each) for each in masks]) > even else self.on(x, masks)

    def whole(self, x: Tensor) -> Tensor:
        """The block computed everywhere, with zeros where its masks are 0."""
        if self.joint is None:
            return self.masked(x, self.masks(x))
        active, total = self.entered(x)
        made = self.everywhere(self.joint, active)
        features, columns = len(self.first.bias), self.masks.matrix.shape[1]
        masks = self.masks.drawn(rows(made)[:, features : features + columns], extent(x))
        inner = F.relu(made[:, :features]).mul_(masks[0])
        return self._summed(total, self.everywhere(self.second, inner), masks[-1])

    @property
    @abstractmethod
    def zero(self) -> bool:
        """Whether positions that are not computed are 0."""

    @property
    @abstractmethod
    def grain(self) -> int:
        """Side of the squares of positions that are computed as a whole."""

    @abstractmethod
    def on(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        """The block with these masks [N, 1, H', W'], computed where they are 1."""

    @abstractmethod
    def ways(self, index: int, x: Tensor, mask: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
        """Functions that compute the first convolution (0) or the second (1) of its input `x`: at the mask, and
        everywhere."""

    def budgets(self, like: tuple[int, int, int]) -> list[float]:
        """Densities of masks with budgets, for an input of this number of images, rows and columns."""
        found = []
        for each in self.masks.samplings:
            stride = each.predict.stride[0]
            found.append(taken(each.density, (-(-like[1] // stride), -(-like[2] // stride)), each.tile))
        return found

    def density(self, shares: list[float]) -> float:
        """Computed share of the convolutions' multiply-accumulates, from the share of each mask's positions."""
        computed = whole = 0.0
        positions = 1.0
        for conv, of_mask in zip(self.convolutions(), (shares[0], shares[-1], shares[-1]), strict=False):
            if conv is not self.shortcut:
                positions /= conv.stride**2
                computed += conv.matrix.numel() * positions * of_mask
                whole += conv.matrix.numel() * positions
        return computed / whole


def share(mask: Tensor) -> float:
    """Computed share of a mask's positions."""
    return int(mask.count_nonzero()) / max(1, mask.numel())


def _joint(first: Convolution, masks: Masks) -> Convolution:
    """The first convolution and the masks' products as one, so that their input is read once."""
    inputs, columns = masks.matrix.shape
    # Libraries are slow with channel counts that are not multiples of 8.
    padding = -(len(first.bias) + columns) % 8
    parts = [first.weight.flatten(1), masks.matrix.t(), masks.matrix.new_zeros(padding, inputs)]
    joint = nn.Conv2d(inputs, len(first.bias) + columns + padding, 1, device="meta")
    joint.weight = nn.Parameter(torch.cat(parts)[:, :, None, None], requires_grad=False)
    joint.bias = nn.Parameter(F.pad(first.bias, (0, columns + padding)), requires_grad=False)
    return Convolution(joint, None, "joint")
