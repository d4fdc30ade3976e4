"""Interpolates features at positions that were not computed (Xie et al., arXiv 2003.08866)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.kinds.sampling import Fill

INITIAL_SIGMA: Final = 3.0
FLOOR: Final = 1e-12
"""Minimum weight of a soft mask, so that gradients stay finite at 0."""
_WIDTH: Final = 5
"""Width of a band of squared distances."""
_STEEPEST: Final = 16.0
"""Squared distances differ by at least 1: above this value float32 only resolves the nearest position."""
_TINY: Final = torch.finfo(torch.float32).tiny


class Interpolation(nn.Module):
    """Features [N, C, H, W] and a mask [N, 1, H, W] -> at every position the mean of the others in its window, weighted
    by mask and distance; 0 without any.

    Radial basis functions weigh exp(-sigma^2 d^2 / 2). The largest exponent at each position is subtracted, so that the
    nearest has weight 1 for any sigma and window. The published form, which adds 1e-5 to the denominator, gives almost
    0 from a distance of 2.
    """

    def __init__(self, fill: Fill, window: int) -> None:
        super().__init__()
        self.window = window
        self.sigma = nn.Parameter(torch.full((1,), INITIAL_SIGMA)) if fill == "rbf" else None
        self.kernel = nn.Parameter(torch.exp(-self._squares() / 2)) if fill == "learned" else None

    def exponents(self, device: torch.device | None = None) -> Tensor:
        """float32 [window, window]: the logarithm of the weight by offset, up to a common term; -inf in the center,
        because interpolated positions were not computed."""
        squares = self._squares(device)
        if self.sigma is not None:
            found = -self._steepness(self.sigma) * squares
        else:
            found = torch.zeros_like(squares) if self.kernel is None else self.kernel.float().abs().log()
        return found.masked_fill(squares == 0, -torch.inf)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            features, mask = x.float(), mask.float()
            soft = self.training and mask.requires_grad
            if soft:
                mask = mask.clamp_min(FLOOR)
            if self.sigma is not None and not soft:
                return self._radial(features * mask, mask, self._steepness(self.sigma)).to(x.dtype)
            exponents = self.exponents(x.device)
            # With soft masks the nearest always exists and has weight 1.
            kernel = torch.exp(exponents if self.sigma is None else exponents + self._steepness(self.sigma))
            weight = F.conv2d(mask, kernel[None, None], padding=self.window // 2)
            return _mean(self._sums(features * mask, kernel), weight).to(x.dtype)

    def _radial(self, features: Tensor, mask: Tensor, steepness: Tensor) -> Tensor:
        """By bands of distances, in each of which all weights are normal floating-point numbers; the subtracted maximum
        is that of the nearest band with a position."""
        squares = self._squares(features.device)
        lowest = _bands(self.window)
        ends = (*lowest[1:], self.window**2)
        inside = torch.stack(
            [(squares >= low) & (squares < end) for low, end in zip(lowest, ends, strict=True)]
        ).float()
        starts = torch.tensor(lowest, dtype=torch.float32, device=features.device)[:, None, None]
        steepness = steepness.clamp(max=_STEEPEST)
        kernels = inside * torch.exp(_WIDTH * _STEEPEST / 2 - steepness * (squares - starts).clamp(0, _WIDTH))
        reach = self.window // 2
        found = F.conv2d((mask > 0).float(), inside[:, None], padding=reach) > 0.5
        nearest = torch.where(found, starts, self.window**2).amin(1, keepdim=True)
        factors = torch.exp(-steepness * (starts - nearest).clamp_min(0))
        weight = (factors * F.conv2d(mask, kernels[:, None], padding=reach)).sum(1, keepdim=True)
        total = sum(
            (factors[:, i : i + 1] * self._sums(features, kernel) for i, kernel in enumerate(kernels)),
            torch.zeros_like(features),
        )
        return _mean(total, weight)

    def _sums(self, features: Tensor, kernel: Tensor) -> Tensor:
        channels = features.shape[1]
        kernels = kernel.expand(channels, 1, *kernel.shape)
        return F.conv2d(features, kernels, padding=self.window // 2, groups=channels)

    def _squares(self, device: torch.device | None = None) -> Tensor:
        """Distances from the center in pixels."""
        offsets = torch.arange(self.window, dtype=torch.float32, device=device) - self.window // 2
        return offsets[:, None] ** 2 + offsets**2

    @staticmethod
    def _steepness(sigma: Tensor) -> Tensor:
        return sigma.float().square() / 2


def _mean(total: Tensor, weight: Tensor) -> Tensor:
    """Without any weight the result and its gradients are 0, as on a map of one position."""
    return total / weight.masked_fill(weight < _TINY, 1.0)


def _bands(window: int) -> list[int]:
    """The smallest squared distances of bands that are at most `_WIDTH` wide."""
    reach = window // 2
    found: list[int] = []
    for square in sorted({i * i + j * j for i in range(reach + 1) for j in range(reach + 1)} - {0}):
        if not found or square > found[-1] + _WIDTH:
            found.append(square)
    return found
