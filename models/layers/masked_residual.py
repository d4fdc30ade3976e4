"""Residual blocks in evaluation with masks on their convolutions: what the forms that save time have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.folded_residual import USUAL, FoldedResidual, Table
from models.layers.rows import rows
from models.layers.spatial_sampling import Sampled, Sampling, size_of


class Masks(nn.Module):
    """All masks of a block by one product: a 3 x 3 convolution to one channel is 9 products with each pixel, which are added
    where they meet."""

    matrix: Tensor
    bias: Tensor

    def __init__(self, samplings: list[Sampling]) -> None:
        super().__init__()
        self.samplings = samplings
        weights = torch.stack([each.predict.weight.detach()[0] for each in samplings])
        # [masks, C, 3, 3] -> [C, 9 masks], the masks innermost.
        self.register_buffer("matrix", weights.permute(1, 2, 3, 0).flatten(1).contiguous())
        self.register_buffer("bias", torch.cat([cast("Tensor", each.predict.bias).detach() for each in samplings]))

    @property
    def constant(self) -> bool:
        """Whether every position is computed whatever the image."""
        return all(each.draw == "budget" and each.density >= 1 for each in self.samplings)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, C, H, W] -> of each mask float32 [N, 1, H', W']."""
        count, _, height, width = x.shape
        products = rows(x.contiguous(memory_format=torch.channels_last)) @ self.matrix
        planes = F.pad(products.t().reshape(9, len(self.samplings), count, height, width), (1, 1, 1, 1))
        found = []
        for i, sampling in enumerate(self.samplings):
            stride = sampling.predict.stride[0]
            logits = self.bias[i].expand(1)
            for k in range(9):
                top, left = divmod(k, 3)
                logits = logits + planes[k, i, :, top : top + height : stride, left : left + width : stride]
            found.append(sampling.hard(logits[:, None]))
        return found


class MaskedBlock(FoldedResidual):
    """A `Sampled` block: with zeros elsewhere and masks denser than a measured break-even it is computed everywhere."""

    def __init__(self, module: Sampled, table: Table) -> None:
        """Raises ValueError for convolutions with groups."""
        super().__init__(module.body, table)
        self.masks = Masks([cast("Sampling", each) for each in module.masks])

    def forward(self, x: Tensor) -> Tensor:
        if self.masks.constant:
            return super().forward(x)
        masks = self.masks(x)
        if self.zero and self.density(masks) > self.table.get(self.key((len(x), *size_of(x))), USUAL).break_even:
            return self.masked(x, masks)
        return self.on(x, masks)

    @property
    @abstractmethod
    def zero(self) -> bool:
        """Whether what is not computed is 0."""

    @abstractmethod
    def on(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        """The block with these masks [N, 1, H', W'], computed where they say."""

    @abstractmethod
    def ways(self, index: int, x: Tensor, mask: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
        """To compute the first convolution (0) or the second (1) of its input `x`: where the mask says, and everywhere."""

    def density(self, masks: list[Tensor]) -> float:
        """The share of the convolutions' multiply-accumulates."""
        computed = whole = 0
        for conv, mask in zip(self.convolutions(), (masks[0], masks[-1], masks[-1]), strict=False):
            if conv is not self.shortcut:
                computed += conv.matrix.numel() * int(mask.count_nonzero())
                whole += conv.matrix.numel() * mask.numel()
        return computed / max(1, whole)
