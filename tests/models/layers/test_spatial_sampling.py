"""Sampled blocks: costs, outputs and masks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from paretofit.models.architecture import Architecture, ArchitectureError
from paretofit.models.build import build
from paretofit.models.cost import cost
from paretofit.models.families.registry import architecture
from paretofit.models.kinds.sampling import (
    Draw,
    Fill,
    Policy,
    Sampled,
    deformable_offsets,
    densities,
    plain,
    sampled,
    sampled_blocks,
    with_densities,
)
from paretofit.models.layers.noise import logistic
from paretofit.models.layers.spatial_sampling import GATE_RATE, samplings, set_temperature
from tests.models.layers.spatial import BACKBONES, images, masks, network


@pytest.mark.parametrize(("size", "convolutions", "total"), [((992, 1664), 256.58, 289.47), ((480, 832), None, 70.03)])
def test_published_resnet101(size: tuple[int, int], convolutions: float | None, total: float) -> None:
    """Xie et al. (arXiv 2003.08866): MACs of convolutions, and separately of the offsets of deformable ones."""
    backbone = architecture("resnet101")
    macs = sum(layer.macs for layer in backbone.layers(size) if layer.op == "conv")
    offsets = deformable_offsets(backbone, size)
    assert round((macs + offsets) / 1e9, 2) == total
    if convolutions is not None:
        assert (round(macs / 1e9, 2), round(offsets / 1e9, 2)) == (convolutions, 32.89)
    assert deformable_offsets(sampled(backbone, Policy()), size) == offsets


def test_bottleneck_cost() -> None:
    body = BACKBONES["resnet50"].blocks[2]
    block = sampled_blocks(sampled(BACKBONES["resnet50"], Policy()))[1]
    assert block.body == body
    with_density = with_densities(sampled(BACKBONES["resnet50"], Policy()), [0.5, 0.25] * 16)
    half = sampled_blocks(with_density)[1]
    macs = {layer.name: layer.macs for layer in half.layers((8, 8)) if layer.macs}
    pixels, outer, planes = 64, body.in_channels, getattr(body, "mid_channels", 0)
    assert macs == {
        "masks.0.predict": 9 * outer * pixels,
        "masks.1.predict": 9 * outer * pixels,
        "body.reduce.conv": outer * planes * pixels // 2,
        "fills.0": 49 * planes * pixels // 4,
        "body.spatial.conv": 9 * planes**2 * pixels // 4,
        "body.expand.conv": planes * outer * pixels // 4,
        "fills.1": 49 * outer * pixels * 3 // 16,
    }
    assert half.dense_macs((8, 8)) == (outer * planes * pixels, (9 * planes + outer) * planes * pixels)


@pytest.mark.parametrize(("tile", "density"), [(1, 0.3), (1, 0.01), (4, 0.3), (4, 0.6)])
def test_budget_cost_equals_the_cost_of_its_masks(tile: int, density: float) -> None:
    """A share of few positions cannot be met exactly."""
    budgeted = network("resnet18", draw="budget", density=density, fill="zero", grid=0, tile=tile)
    shares = [float(mask.mean()) for mask in masks(budgeted, images(2))]
    assert max(abs(share - density) for share in shares) > 0.05 or tile == 1
    size = (32, 32)
    exact = with_densities(budgeted.architecture, shares, draw="stochastic")
    assert cost(budgeted.architecture, size).macs == pytest.approx(cost(exact, size).macs, rel=1e-6)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("fill", ["rbf", "learned", "average", "zero"])
@pytest.mark.parametrize("shared", [False, True])
def test_architecture_data_describes_the_built_network(name: str, fill: Fill, shared: bool) -> None:
    described = sampled(BACKBONES[name], Policy(fill=fill, shared=shared))
    assert Architecture.from_json(json.loads(json.dumps(described.to_json()))) == described
    assert plain(described) == BACKBONES[name]
    model = build(described, "meta")
    size = (described.nominal, described.nominal)
    assert cost(described, size).params == sum(parameter.numel() for parameter in model.parameters())
    modules = dict(model.named_modules())
    assert all(layer.name in modules for layer in described.layers(size) if layer.params)
    assert len(list(samplings(model))) == len(densities(described))
    if fill == "zero":
        dense = cost(BACKBONES[name], size).macs
        predictors = sum(layer.macs for layer in described.layers(size) if "predict" in layer.name)
        assert cost(described, size).macs == dense + predictors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"densities": (0.5,)}, "densities must be two"),
        ({"densities": (0.5, 1.5)}, "from 0 to 1, not 1.5"),
        ({"window": 4}, "window must be an odd"),
        ({"grid": -1}, "grid must be 0"),
        ({"tile": 0}, "tile must be at least 1"),
        ({"draw": "gated"}, "fill must be zero"),
        ({"in_channels": 3}, "channels must be the body's"),
        ({"body": BACKBONES["resnet50"].blocks[0]}, "body must be a residual block"),
    ],
)
def test_invalid_sampled_blocks_are_rejected(change: dict[str, Any], message: str) -> None:
    described = sampled(BACKBONES["resnet50"], Policy())
    block = replace(sampled_blocks(described)[0], **change)
    with pytest.raises(ValueError, match=message):
        block.layers((8, 8))


def test_network_without_residual_blocks_is_rejected() -> None:
    with pytest.raises(ValueError, match="no residual blocks to sample"):
        sampled(architecture("mobilenet_v1"), Policy())
    with pytest.raises(ArchitectureError, match=r"blocks\[1\]"):
        with_densities(sampled(BACKBONES["resnet50"], Policy()), [1.5] * 32)
    with pytest.raises(ValueError, match="32 densities are needed, but 1 are given"):
        with_densities(sampled(BACKBONES["resnet50"], Policy()), [0.5])


def test_initial_masks_compute_almost_all_positions() -> None:
    model = build(sampled(BACKBONES["resnet18"], Policy())).eval()
    each = next(samplings(model))
    logits = each.predict(torch.randn(2, each.predict.in_channels, 8, 8))
    assert torch.allclose(torch.sigmoid(logits), torch.tensor(0.9526), atol=1e-4)


def test_draws_follow_their_probability_and_are_reproducible() -> None:
    noise = logistic(3, 5, (200, 200), torch.device("cpu"))
    for logit in (-2.0, 0.0, 1.0):
        share = (noise + logit > 0).float().mean()
        assert abs(float(share) - float(torch.sigmoid(torch.tensor(logit)))) < 0.01
    assert torch.equal(noise, logistic(3, 5, (200, 200), torch.device("cpu")))
    assert not torch.equal(noise, logistic(4, 5, (200, 200), torch.device("cpu")))
    assert not torch.equal(noise, logistic(3, 6, (200, 200), torch.device("cpu")))


@pytest.mark.parametrize("draw", ["stochastic", "deterministic", "budget"])
def test_mask_of_an_image_does_not_depend_on_batch_size(draw: Draw) -> None:
    model = network("resnet50", draw=draw, density=0.3, seed=4)
    x = images(5)
    together = masks(model, x)
    for i in range(5):
        for one, all_of_them in zip(masks(model, x[i : i + 1]), together, strict=True):
            assert torch.equal(one[0], all_of_them[i])
    assert all(bool(((mask == 0) | (mask == 1)).all()) for mask in together)
    other = masks(network("resnet50", draw=draw, density=0.3, seed=5), x)
    same = all(torch.equal(one, another) for one, another in zip(together, other, strict=True))
    assert same == (draw == "deterministic")


def test_budget_is_met_exactly() -> None:
    model = network("resnet18", draw="budget", density=0.3, grid=0)
    for mask in masks(model, images(2)):
        positions = mask[0].numel()
        assert mask.flatten(1).sum(1).tolist() == [round(0.3 * positions)] * 2


def test_grid_positions_are_always_computed() -> None:
    for draw in ("stochastic", "deterministic", "budget"):
        model = network("resnet18", draw=draw, density=0.3, grid=3)
        for each in samplings(model):
            assert each.predict.bias is not None
            nn.init.constant_(each.predict.bias, -9.0)
        for mask in masks(model, images(1)):
            assert bool((mask[:, :, 1::3, 1::3] == 1).all())


@pytest.mark.parametrize("scale", [3, 1e6])
def test_budget_below_the_grid_keeps_its_highest_scores(scale: float) -> None:
    sampling = next(samplings(network("resnet18", draw="budget", density=0.1, grid=2)))
    logits = scale * torch.randn(2, 1, 16, 20, generator=torch.Generator().manual_seed(0))
    mask, ranked = sampling.hard(logits), logits + sampling.noise((16, 20), logits.device)
    grid = torch.zeros_like(mask)
    grid[:, :, 1::2, 1::2] = 1
    for i in range(2):
        least = ranked[i][grid[i] > 0].topk(32).values[-1]
        assert torch.equal(mask[i], grid[i] * (ranked[i] >= least))


@pytest.mark.parametrize("grid", [1, 3, 4, 7])
def test_every_position_has_a_neighbor_on_the_grid(grid: int) -> None:
    sampling = next(samplings(network("resnet18", draw="deterministic", grid=grid)))
    for side in range(1, 20):
        mask = sampling.hard(torch.full((1, 1, side, 2 * side), -9.0))
        assert bool((nn.functional.max_pool2d(mask, 2 * (grid // 2) + 1, 1, grid // 2) == 1).all())


@pytest.mark.parametrize("draw", ["stochastic", "deterministic", "budget"])
def test_tile_masks_are_constant_within_tiles(draw: Draw) -> None:
    model = network("resnet18", draw=draw, density=0.5, grid=0, tile=4)
    sampling = next(samplings(model))
    logits = torch.randn(2, 1, 10, 13, generator=torch.Generator().manual_seed(0)) - 0.2
    mask = sampling.hard(logits)
    tiles = mask[:, :, ::4, ::4]
    assert tiles.shape[-2:] == (3, 4)
    assert torch.equal(mask, tiles.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, :10, :13])
    assert 0 < float(tiles.mean()) < 1
    if draw == "deterministic":
        means = torch.stack(
            [part.mean((2, 3)) for row in torch.split(logits, 4, 2) for part in torch.split(row, 4, 3)], 2
        )
        assert torch.equal(tiles.flatten(2) > 0, means >= 0)
    if draw == "budget":
        assert tiles.flatten(1).sum(1).tolist() == [6, 6]
    assert sampling.probabilities(logits).shape == logits.shape
    assert len(torch.unique(sampling.sigmoids(logits)[0, 0, :4, :4])) == 1


def test_noise_is_cached() -> None:
    sampling = next(samplings(network("resnet18", draw="stochastic")))
    first = sampling.noise((8, 8), torch.device("cpu"))
    assert sampling.noise((8, 8), torch.device("cpu")) is first


@pytest.mark.parametrize("fill", ["rbf", "learned", "average", "zero"])
@pytest.mark.parametrize("draw", ["stochastic", "deterministic"])
@pytest.mark.parametrize("tau", [1.0, 0.03])
def test_training_has_finite_gradients_for_all_parameters(fill: Fill, draw: Draw, tau: float) -> None:
    model = network("resnet50", fill=fill, draw=draw, grid=0).train()
    for each in samplings(model):
        assert each.predict.bias is not None
        nn.init.constant_(each.predict.bias, -2.0)
    set_temperature(model, tau)
    model(images()).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    set_temperature(model, None)
    assert all(bool(((mask == 0) | (mask == 1)).all()) for mask in masks(model, images()))


def test_gate_gradients_are_scaled_down() -> None:
    gate = next(samplings(network("resnet18", fill="zero", draw="gated", grid=0).train()))
    assert gate.predict.bias is not None
    nn.init.constant_(gate.predict.bias, 3.0)
    nn.init.zeros_(gate.predict.weight)
    x = torch.rand(1, gate.predict.in_channels, 8, 8)
    logits = gate.predict(x)
    gate.tau = 1.0
    gated = gate(x)
    assert torch.equal(gated, logits.clamp(0, 6))
    (scaled,) = torch.autograd.grad(gated.sum(), gate.predict.weight)
    (unscaled,) = torch.autograd.grad(logits.sum(), gate.predict.weight)
    assert torch.allclose(scaled, GATE_RATE * unscaled)


def test_blocks_have_distinct_places_and_streams() -> None:
    described = sampled(BACKBONES["resnet18"], Policy(density=0.5))
    assert [block.place for block in sampled_blocks(described)] == list(range(8))
    assert all(isinstance(block, Sampled) for block in sampled_blocks(described))
    streams = [each.stream for each in samplings(build(described, "meta"))]
    assert len(set(streams)) == len(streams) == 16
