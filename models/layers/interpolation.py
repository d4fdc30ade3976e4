"""Features at positions that were not computed, from those that were (Xie et al., arXiv 2003.08866)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.kinds.sampling import Fill

INITIAL_SIGMA: Final = 3.0
_EXPONENTS: Final = 100.0
"""Between the largest and the least weight of a window: all of them are normal numbers of float32, and so is their product
with a feature."""
_LARGEST: Final = 20.0
FLOOR: Final = 1e-12
"""The least weight of a soft mask: gradients stay finite where it has none."""


class Interpolation(nn.Module):
    """Features [N, C, H, W] and a mask [N, 1, H, W] -> at every position the mean of the others in its window, weighted by mask
    and distance; 0 where there are none."""

    def __init__(self, fill: Fill, window: int) -> None:
        super().__init__()
        self.window = window
        self.sigma = nn.Parameter(torch.full((1,), INITIAL_SIGMA)) if fill == "rbf" else None
        self.kernel = nn.Parameter(torch.exp(-self._squares() / 2)) if fill == "learned" else None

    def weights(self, device: torch.device | None = None) -> Tensor:
        """float32 [window, window]: by offset, up to a common factor; 0 in the middle, because what is interpolated was not
        computed.

        Radial basis functions have exp(-sigma^2 d^2 / 2), of which the exponents are shifted to be representable: what the
        published form, whose denominator has 1e-5 added, gives at a distance of 2 is almost 0.
        """
        squares = self._squares(device)
        others = (squares > 0).float()
        if self.sigma is not None:
            steepness = self.sigma.float().square().clamp(max=_EXPONENTS / float(self.window // 2) ** 2)
            return others * torch.exp(_LARGEST - steepness * (squares - 1) / 2)
        if self.kernel is not None:
            return others * self.kernel.float().abs()
        return others

    def _squares(self, device: torch.device | None = None) -> Tensor:
        """Of the distances from the middle, pixels."""
        offsets = torch.arange(self.window, dtype=torch.float32, device=device) - self.window // 2
        return offsets[:, None] ** 2 + offsets**2

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            features, mask = x.float(), mask.float()
            if self.training and mask.requires_grad:
                mask = mask.clamp_min(FLOOR)
            kernels = self.weights(x.device)
            total = F.conv2d(
                features * mask,
                kernels.expand(x.shape[1], 1, *kernels.shape),
                padding=self.window // 2,
                groups=x.shape[1],
            )
            weight = F.conv2d(mask, kernels[None, None], padding=self.window // 2)
            return (total / weight.clamp_min(torch.finfo(torch.float32).tiny)).to(x.dtype)
