"""Features at positions that were not computed, from those that were (Xie et al., arXiv 2003.08866)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.kinds.sampling import Fill

INITIAL_SIGMA: Final = 3.0
FLOOR: Final = 1e-12
"""The least weight of a soft mask: gradients stay finite where it has none."""
_FAR: Final = 1e6
"""A squared distance that nothing in a window has."""
_TINY: Final = torch.finfo(torch.float32).tiny


class Interpolation(nn.Module):
    """Features [N, C, H, W] and a mask [N, 1, H, W] -> at every position the mean of the others in its window, weighted by mask
    and distance; 0 where there are none.

    Radial basis functions weigh exp(-sigma^2 d^2 / 2). From each position's exponents the largest is taken away: what is
    nearest weighs 1 for any sigma and window. The published form, whose denominator has 1e-5 added, gives almost 0 from a
    distance of 2 on.
    """

    def __init__(self, fill: Fill, window: int) -> None:
        super().__init__()
        self.window = window
        self.sigma = nn.Parameter(torch.full((1,), INITIAL_SIGMA)) if fill == "rbf" else None
        self.kernel = nn.Parameter(torch.exp(-self._squares() / 2)) if fill == "learned" else None

    def exponents(self, device: torch.device | None = None) -> Tensor:
        """float32 [window, window]: the logarithm of the weight by offset, up to a common term; -inf in the middle, because what is
        interpolated was not computed."""
        squares = self._squares(device)
        if self.sigma is not None:
            found = -self._steepness(self.sigma) * squares
        else:
            found = torch.zeros_like(squares) if self.kernel is None else self.kernel.float().abs().log()
        return found.masked_fill(squares == 0, -torch.inf)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            features, mask = x.float(), mask.float()
            if self.training and mask.requires_grad:
                mask = mask.clamp_min(FLOOR)
            if self.sigma is not None:
                return self._radial(features, mask, self._steepness(self.sigma)).to(x.dtype)
            others = (self._squares(x.device) > 0).float()
            kernel = others if self.kernel is None else others * self.kernel.float().abs()
            total = F.conv2d(
                features * mask,
                kernel.expand(x.shape[1], 1, *kernel.shape),
                padding=self.window // 2,
                groups=x.shape[1],
            )
            weight = F.conv2d(mask, kernel[None, None], padding=self.window // 2)
            return (total / weight.clamp_min(_TINY)).to(x.dtype)

    def _radial(self, features: Tensor, mask: Tensor, steepness: Tensor) -> Tensor:
        """The weights are products of one for the line and one for the column: means along lines, then of these means."""
        reach = self.window // 2
        sides = [offset for offset in range(-reach, reach + 1) if offset]
        # Squared distances to the nearest that is there: in the line, but for the position itself; with it; in the window.
        own = torch.where(mask > 0, 0.0, _FAR)
        lines = _shifted(own, sides, dim=3, beyond=_FAR)
        beside = torch.stack([line + offset**2 for offset, line in zip(sides, lines, strict=True)]).amin(0)
        line = torch.minimum(own, beside)
        above = _shifted(line, sides, dim=2, beyond=_FAR)
        nearest = torch.stack([beside, *(each + offset**2 for offset, each in zip(sides, above, strict=True))]).amin(0)

        def weight(squares: Tensor) -> Tensor:
            # Below 0 is only what the mask leaves out.
            return torch.exp(-steepness * squares.clamp_min(0))

        weights = [
            values * weight(offset**2 - beside)
            for offset, values in zip(sides, _shifted(mask, sides, dim=3), strict=True)
        ]
        in_line = _sum(_shifted(features, sides, dim=3), weights), torch.stack(weights).sum(0)
        to_line = weight(beside - line)
        with_middle = features * mask + in_line[0] * to_line, mask + in_line[1] * to_line
        weights = [weight(beside - nearest)] + [
            weight(each + offset**2 - nearest) for offset, each in zip(sides, above, strict=True)
        ]
        total, whole = (
            _sum([inner, *_shifted(outer, sides, dim=2)], weights)
            for inner, outer in zip(in_line, with_middle, strict=True)
        )
        return total / whole.clamp_min(_TINY)

    def _squares(self, device: torch.device | None = None) -> Tensor:
        """Of the distances from the middle, pixels."""
        offsets = torch.arange(self.window, dtype=torch.float32, device=device) - self.window // 2
        return offsets[:, None] ** 2 + offsets**2

    @staticmethod
    def _steepness(sigma: Tensor) -> Tensor:
        return sigma.float().square() / 2


def _shifted(x: Tensor, offsets: list[int], *, dim: int, beyond: float = 0.0) -> list[Tensor]:
    """Of a map [N, C, H, W] for each offset what is so far on along a dimension; `beyond` its border this value."""
    reach = max(offsets)
    border = (reach, reach, 0, 0) if dim == 3 else (0, 0, reach, reach)
    padded = F.pad(x, border, value=beyond)
    return [padded.narrow(dim, reach + offset, x.shape[dim]) for offset in offsets]


def _sum(maps: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Of maps [N, C, H, W] by weights [N, 1, H, W]."""
    total = maps[0] * weights[0]
    for each, weight in zip(maps[1:], weights[1:], strict=True):
        total = torch.addcmul(total, each, weight)
    return total
