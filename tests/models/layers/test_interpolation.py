"""Interpolation of features at positions that were not computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from paretofit.models.kinds.sampling import (
    Fill,
)
from paretofit.models.layers.interpolation import Interpolation


def _weighted_mean(values: Tensor, mask: Tensor, steepness: float, reach: int = 3) -> Tensor:
    """Reference implementation of the definition, in double precision."""
    values, mask = values.double(), mask.double()
    height, width = mask.shape[-2:]
    result = torch.zeros_like(values)
    for y in range(height):
        for x in range(width):
            total, weight = torch.zeros_like(values[0, :, 0, 0]), 0.0
            for v in range(max(0, y - reach), min(height, y + reach + 1)):
                for u in range(max(0, x - reach), min(width, x + reach + 1)):
                    share = float(mask[0, 0, v, u]) * 2.718281828459045 ** (
                        -steepness * ((v - y) ** 2 + (u - x) ** 2) / 2
                    )
                    total, weight = total + share * values[0, :, v, u], weight + share
            result[0, :, y, x] = total / weight if weight else 0.0
    return result


def test_interpolation_is_the_weighted_mean_of_nearby_positions() -> None:
    torch.manual_seed(0)
    values, mask = torch.randn(1, 4, 11, 9), (torch.rand(1, 1, 11, 9) < 0.06).float()
    result = Interpolation("rbf", 7)(values, mask)
    missing = mask.expand_as(values) == 0
    assert torch.allclose(result[missing], _weighted_mean(values, mask, 9.0).float()[missing], rtol=1e-4, atol=1e-5)
    # The only neighbor is at distance 2: its weight is 1.5e-8, but it still determines the value.
    single = torch.zeros(1, 1, 7, 7)
    single[0, 0, 3, 5] = 1
    values = torch.randn(1, 2, 7, 7)
    assert torch.allclose(Interpolation("rbf", 7)(values, single)[0, :, 3, 3], values[0, :, 3, 5])
    assert not Interpolation("rbf", 7)(values, torch.zeros_like(single)).any()


@pytest.mark.parametrize(("window", "sigma"), [(7, 4.5), (9, 3.0), (11, 3.0), (11, 1.0)])
def test_sigma_is_used_and_trained_in_any_window(window: int, sigma: float) -> None:
    torch.manual_seed(0)
    values, mask = torch.randn(1, 2, 12, 13), (torch.rand(1, 1, 12, 13) < 0.05).float()
    fill = Interpolation("rbf", window)
    assert fill.sigma is not None
    nn.init.constant_(fill.sigma, sigma)
    result = fill(values, mask)
    missing = mask.expand_as(values) == 0
    expected = _weighted_mean(values, mask, sigma**2, window // 2).float()
    assert torch.allclose(result[missing], expected[missing], rtol=1e-4, atol=1e-5)
    soft = torch.rand(1, 1, 12, 13).mul_(0.9).add_(0.1)
    fill(values, soft).square().sum().backward()
    assert fill.sigma.grad is not None
    assert float(fill.sigma.grad.abs()) > 1e-6


@pytest.mark.parametrize("fill", ["rbf", "learned", "average"])
def test_single_position_map_has_finite_gradients(fill: Fill) -> None:
    """There is no neighbor to interpolate from."""
    interpolation = Interpolation(fill, 7).train()
    values, mask = torch.randn(8, 16, 1, 1, requires_grad=True), torch.rand(8, 1, 1, 1, requires_grad=True)
    result = interpolation(values, mask)
    assert not result.any()
    # Scaled as losses are for float16.
    (result * 2**16).sum().backward()
    for each in (values, mask, *interpolation.parameters()):
        assert each.grad is not None
        assert each.grad.isfinite().all()
