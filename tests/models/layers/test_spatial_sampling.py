"""Sampled blocks: what they cost and compute, their masks, and the forms that save time."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.architecture import Architecture, ArchitectureError
from models.build import Network, build
from models.cost import cost
from models.families.registry import architecture
from models.kinds.sampling import (
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
from models.layers.folded_residual import Choice
from models.layers.interpolation import Interpolation
from models.layers.masked_residual import MaskedBlock
from models.layers.noise import logistic
from models.layers.sparse import Form, break_even, sparse
from models.layers.spatial_sampling import GATE_RATE, samplings, set_temperature
from models.layers.tiled_sampling import Tiles

BACKBONES = {
    "resnet50": architecture("resnet50", base_width=0.125, nominal=32, classes=5),
    "resnet18": architecture("resnet18", base_width=0.125, nominal=32, classes=5),
    "wrn_10_1": architecture("wrn_10_1", nominal=32, classes=5),
}


def network(name: str, **policy: Any) -> Network:
    """With statistics as a training leaves them, and masks that depend on the image."""
    torch.manual_seed(0)
    found = build(sampled(BACKBONES[name], Policy(**policy))).eval()
    return trained(found)


def trained(found: Network) -> Network:
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for each in samplings(found):
        nn.init.normal_(each.predict.weight, 0, 0.05)
        assert each.predict.bias is not None
        nn.init.constant_(each.predict.bias, -0.3)
    return found


def images(count: int = 3, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def masks(found: Network, x: Tensor) -> list[Tensor]:
    made: list[Tensor] = []
    hooks = [each.register_forward_hook(lambda module, given, mask: made.append(mask)) for each in samplings(found)]
    with torch.inference_mode():
        found(x)
    for hook in hooks:
        hook.remove()
    return made


@pytest.mark.parametrize(("size", "convolutions", "total"), [((992, 1664), 256.58, 289.47), ((480, 832), None, 70.03)])
def test_published_resnet101(size: tuple[int, int], convolutions: float | None, total: float) -> None:
    """Xie et al. (arXiv 2003.08866): convolutions, and as a term of their own the offsets of deformable ones."""
    backbone = architecture("resnet101")
    macs = sum(layer.macs for layer in backbone.layers(size) if layer.op == "conv")
    offsets = deformable_offsets(backbone, size)
    assert round((macs + offsets) / 1e9, 2) == total
    if convolutions is not None:
        assert (round(macs / 1e9, 2), round(offsets / 1e9, 2)) == (convolutions, 32.89)
    assert deformable_offsets(sampled(backbone, Policy()), size) == offsets


def test_cost_of_a_bottleneck() -> None:
    body = BACKBONES["resnet50"].blocks[2]
    block = sampled_blocks(sampled(BACKBONES["resnet50"], Policy()))[1]
    assert block.body == body
    made = with_densities(sampled(BACKBONES["resnet50"], Policy()), [0.5, 0.25] * 16)
    half = sampled_blocks(made)[1]
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
def test_a_budget_costs_what_its_masks_compute(tile: int, density: float) -> None:
    """Of few positions no share can be computed exactly."""
    made = network("resnet18", draw="budget", density=density, fill="zero", grid=0, tile=tile)
    shares = [float(mask.mean()) for mask in masks(made, images(2))]
    assert max(abs(share - density) for share in shares) > 0.05 or tile == 1
    size = (32, 32)
    exact = with_densities(made.architecture, shares, draw="stochastic")
    assert cost(made.architecture, size).macs == pytest.approx(cost(exact, size).macs, rel=1e-6)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("fill", ["rbf", "learned", "average", "zero"])
@pytest.mark.parametrize("shared", [False, True])
def test_data_is_the_network(name: str, fill: Fill, shared: bool) -> None:
    made = sampled(BACKBONES[name], Policy(fill=fill, shared=shared))
    assert Architecture.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert plain(made) == BACKBONES[name]
    found = build(made, "meta")
    size = (made.nominal, made.nominal)
    assert cost(made, size).params == sum(parameter.numel() for parameter in found.parameters())
    modules = dict(found.named_modules())
    assert all(layer.name in modules for layer in made.layers(size) if layer.params)
    assert len(list(samplings(found))) == len(densities(made))
    if fill == "zero":
        dense = cost(BACKBONES[name], size).macs
        predictors = sum(layer.macs for layer in made.layers(size) if "predict" in layer.name)
        assert cost(made, size).macs == dense + predictors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"densities": (0.5,)}, "densities must be two"),
        ({"densities": (0.5, 1.5)}, "from 0 to 1, not 1.5"),
        ({"window": 4}, "window must be an odd"),
        ({"grid": -1}, "grid must be 0"),
        ({"tile": 0}, "tile must be 1"),
        ({"draw": "gated"}, "fill must be zero"),
        ({"in_channels": 3}, "channels must be the body's"),
        ({"body": BACKBONES["resnet50"].blocks[0]}, "body must be a residual block"),
    ],
)
def test_what_is_no_sampled_block(change: dict[str, Any], said: str) -> None:
    made = sampled(BACKBONES["resnet50"], Policy())
    block = replace(sampled_blocks(made)[0], **change)
    with pytest.raises(ValueError, match=said):
        block.layers((8, 8))


def test_a_network_without_residual_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="no residual blocks to sample"):
        sampled(architecture("mobilenet_v1"), Policy())
    with pytest.raises(ArchitectureError, match=r"blocks\[1\]"):
        with_densities(sampled(BACKBONES["resnet50"], Policy()), [1.5] * 32)
    with pytest.raises(ValueError, match="32 densities are needed, not 1"):
        with_densities(sampled(BACKBONES["resnet50"], Policy()), [0.5])


def test_at_first_nearly_everything_is_computed() -> None:
    found = build(sampled(BACKBONES["resnet18"], Policy())).eval()
    each = next(samplings(found))
    logits = each.predict(torch.randn(2, each.predict.in_channels, 8, 8))
    assert torch.allclose(torch.sigmoid(logits), torch.tensor(0.9526), atol=1e-4)


def test_a_draw_has_its_probability_and_repeats() -> None:
    noise = logistic(3, 5, (200, 200), torch.device("cpu"))
    for logit in (-2.0, 0.0, 1.0):
        found = (noise + logit > 0).float().mean()
        assert abs(float(found) - float(torch.sigmoid(torch.tensor(logit)))) < 0.01
    assert torch.equal(noise, logistic(3, 5, (200, 200), torch.device("cpu")))
    assert not torch.equal(noise, logistic(4, 5, (200, 200), torch.device("cpu")))
    assert not torch.equal(noise, logistic(3, 6, (200, 200), torch.device("cpu")))


@pytest.mark.parametrize("draw", ["stochastic", "deterministic", "budget"])
def test_one_image_has_one_mask_at_any_batch_size(draw: Draw) -> None:
    found = network("resnet50", draw=draw, density=0.3, seed=4)
    x = images(5)
    together = masks(found, x)
    for i in range(5):
        for one, all_of_them in zip(masks(found, x[i : i + 1]), together, strict=True):
            assert torch.equal(one[0], all_of_them[i])
    assert all(bool(((mask == 0) | (mask == 1)).all()) for mask in together)
    other = masks(network("resnet50", draw=draw, density=0.3, seed=5), x)
    same = all(torch.equal(one, another) for one, another in zip(together, other, strict=True))
    assert same == (draw == "deterministic")


def test_a_budget_is_met_exactly() -> None:
    found = network("resnet18", draw="budget", density=0.3, grid=0)
    for mask in masks(found, images(2)):
        positions = mask[0].numel()
        assert mask.flatten(1).sum(1).tolist() == [round(0.3 * positions)] * 2


def test_the_grid_is_always_computed() -> None:
    for draw in ("stochastic", "deterministic", "budget"):
        found = network("resnet18", draw=draw, density=0.3, grid=3)
        for each in samplings(found):
            assert each.predict.bias is not None
            nn.init.constant_(each.predict.bias, -9.0)
        for mask in masks(found, images(1)):
            assert bool((mask[:, :, 1::3, 1::3] == 1).all())


@pytest.mark.parametrize("scale", [3, 1e6])
def test_a_budget_less_than_the_grid_takes_the_best_of_it(scale: float) -> None:
    sampling = next(samplings(network("resnet18", draw="budget", density=0.1, grid=2)))
    logits = scale * torch.randn(2, 1, 16, 20, generator=torch.Generator().manual_seed(0))
    mask, ranked = sampling.hard(logits), logits + sampling.noise((16, 20), logits.device)
    grid = torch.zeros_like(mask)
    grid[:, :, 1::2, 1::2] = 1
    for i in range(2):
        least = ranked[i][grid[i] > 0].topk(32).values[-1]
        assert torch.equal(mask[i], grid[i] * (ranked[i] >= least))


@pytest.mark.parametrize("grid", [1, 3, 4, 7])
def test_every_position_has_a_neighbour_on_the_grid(grid: int) -> None:
    sampling = next(samplings(network("resnet18", draw="deterministic", grid=grid)))
    for side in range(1, 20):
        mask = sampling.hard(torch.full((1, 1, side, 2 * side), -9.0))
        assert bool((nn.functional.max_pool2d(mask, 2 * (grid // 2) + 1, 1, grid // 2) == 1).all())


@pytest.mark.parametrize("draw", ["stochastic", "deterministic", "budget"])
def test_masks_of_tiles(draw: Draw) -> None:
    found = network("resnet18", draw=draw, density=0.5, grid=0, tile=4)
    sampling = next(samplings(found))
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


def test_tiles_of_a_mask_are_what_the_tiled_form_computes() -> None:
    """Of masks by positions almost every tile has one."""
    shares = []
    for tile in (1, 8):
        each = next(samplings(network("resnet18", draw="budget", density=0.1, grid=0, tile=tile)))
        shares.append(Tiles.of(each.hard(torch.zeros(1, 1, 56, 56)), 8).density)
    assert shares[0] > 0.9
    assert shares[1] == round(0.1 * 49) / 49


def test_noise_is_kept_on_the_device() -> None:
    sampling = next(samplings(network("resnet18", draw="stochastic")))
    first = sampling.noise((8, 8), torch.device("cpu"))
    assert sampling.noise((8, 8), torch.device("cpu")) is first


def _nearest(values: Tensor, mask: Tensor, steepness: float, reach: int = 3) -> Tensor:
    """By the definition, in double precision."""
    values, mask = values.double(), mask.double()
    height, width = mask.shape[-2:]
    found = torch.zeros_like(values)
    for y in range(height):
        for x in range(width):
            total, weight = torch.zeros_like(values[0, :, 0, 0]), 0.0
            for v in range(max(0, y - reach), min(height, y + reach + 1)):
                for u in range(max(0, x - reach), min(width, x + reach + 1)):
                    share = float(mask[0, 0, v, u]) * 2.718281828459045 ** (
                        -steepness * ((v - y) ** 2 + (u - x) ** 2) / 2
                    )
                    total, weight = total + share * values[0, :, v, u], weight + share
            found[0, :, y, x] = total / weight if weight else 0.0
    return found


def test_interpolation_is_the_weighted_mean_of_what_is_near() -> None:
    torch.manual_seed(0)
    values, mask = torch.randn(1, 4, 11, 9), (torch.rand(1, 1, 11, 9) < 0.06).float()
    found = Interpolation("rbf", 7)(values, mask)
    missing = mask.expand_as(values) == 0
    assert torch.allclose(found[missing], _nearest(values, mask, 9.0).float()[missing], rtol=1e-4, atol=1e-5)
    # At a distance of 2 alone, whose weight is 1.5e-8, it is still that neighbour.
    alone = torch.zeros(1, 1, 7, 7)
    alone[0, 0, 3, 5] = 1
    values = torch.randn(1, 2, 7, 7)
    assert torch.allclose(Interpolation("rbf", 7)(values, alone)[0, :, 3, 3], values[0, :, 3, 5])
    assert not Interpolation("rbf", 7)(values, torch.zeros_like(alone)).any()


@pytest.mark.parametrize(("window", "sigma"), [(7, 4.5), (9, 3.0), (11, 3.0), (11, 1.0)])
def test_sigma_counts_in_any_window(window: int, sigma: float) -> None:
    torch.manual_seed(0)
    values, mask = torch.randn(1, 2, 12, 13), (torch.rand(1, 1, 12, 13) < 0.05).float()
    fill = Interpolation("rbf", window)
    assert fill.sigma is not None
    nn.init.constant_(fill.sigma, sigma)
    found = fill(values, mask)
    missing = mask.expand_as(values) == 0
    expected = _nearest(values, mask, sigma**2, window // 2).float()
    assert torch.allclose(found[missing], expected[missing], rtol=1e-4, atol=1e-5)
    soft = torch.rand(1, 1, 12, 13).mul_(0.9).add_(0.1)
    fill(values, soft).square().sum().backward()
    assert fill.sigma.grad is not None
    assert float(fill.sigma.grad.abs()) > 1e-6


@pytest.mark.parametrize("fill", ["rbf", "learned", "average"])
def test_a_map_of_one_position_has_finite_gradients(fill: Fill) -> None:
    """There is nothing to interpolate from."""
    made = Interpolation(fill, 7).train()
    values, mask = torch.randn(8, 16, 1, 1, requires_grad=True), torch.rand(8, 1, 1, 1, requires_grad=True)
    found = made(values, mask)
    assert not found.any()
    # As losses are scaled for float16.
    (found * 2**16).sum().backward()
    for each in (values, mask, *made.parameters()):
        assert each.grad is not None
        assert each.grad.isfinite().all()


@pytest.mark.parametrize("fill", ["rbf", "learned", "average", "zero"])
@pytest.mark.parametrize("draw", ["stochastic", "deterministic"])
@pytest.mark.parametrize("tau", [1.0, 0.03])
def test_training_has_finite_gradients_for_everything(fill: Fill, draw: Draw, tau: float) -> None:
    found = network("resnet50", fill=fill, draw=draw, grid=0).train()
    for each in samplings(found):
        assert each.predict.bias is not None
        nn.init.constant_(each.predict.bias, -2.0)
    set_temperature(found, tau)
    found(images()).square().sum().backward()
    for name, parameter in found.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    set_temperature(found, None)
    assert all(bool(((mask == 0) | (mask == 1)).all()) for mask in masks(found, images()))


def test_gates_learn_slower_than_what_they_multiply() -> None:
    gate = next(samplings(network("resnet18", fill="zero", draw="gated", grid=0).train()))
    assert gate.predict.bias is not None
    nn.init.constant_(gate.predict.bias, 3.0)
    nn.init.zeros_(gate.predict.weight)
    x = torch.rand(1, gate.predict.in_channels, 8, 8)
    logits = gate.predict(x)
    gate.tau = 1.0
    made = gate(x)
    assert torch.equal(made, logits.clamp(0, 6))
    (slow,) = torch.autograd.grad(made.sum(), gate.predict.weight)
    (whole,) = torch.autograd.grad(logits.sum(), gate.predict.weight)
    assert torch.allclose(slow, GATE_RATE * whole)


POLICIES: dict[str, dict[str, Any]] = {
    "zero": {"fill": "zero", "grid": 0},
    "rbf of a budget": {"draw": "budget", "density": 0.3},
    "learned, one mask": {"fill": "learned", "draw": "deterministic", "shared": True},
    "average": {"fill": "average", "window": 5, "grid": 4},
    "zero, tiles": {"fill": "zero", "draw": "budget", "density": 0.4, "grid": 0, "tile": 4},
    "gated tiles": {"fill": "zero", "draw": "gated", "grid": 0, "tile": 4},
    "rbf, wide": {"window": 11, "grid": 0},
    "gated": {"fill": "zero", "draw": "gated", "grid": 0},
}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("form", ["positions", "tiles"])
@torch.inference_mode()
def test_what_saves_time_computes_the_same(name: str, policy: str, form: Form) -> None:
    found = network(name, **POLICIES[policy])
    quick = sparse(found, form=form)
    for size in ((32, 32), (23, 37)):
        x = images(2, size)
        before = x.clone()
        expected = found(x)
        assert float((quick(x) - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
        assert torch.equal(x, before)


@pytest.mark.parametrize("form", ["positions", "tiles"])
@pytest.mark.parametrize("policy", ["zero", "rbf of a budget"])
@torch.inference_mode()
def test_where_everything_is_faster_the_result_is_the_same(form: Form, policy: str) -> None:
    found = network("resnet50", **POLICIES[policy])
    x = images(2)
    for choice in (Choice(break_even=0.0, product=False), Choice(break_even=1.0, product=True)):
        table = dict.fromkeys(break_even(found, x), choice)
        assert len(table) >= 8
        assert torch.allclose(sparse(found, table, form)(x), found(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", [None, "positions", "tiles"])
@pytest.mark.parametrize("draw", ["budget", "stochastic"])
@pytest.mark.parametrize("name", BACKBONES)
@torch.inference_mode()
def test_masks_of_ones_give_the_plain_network(name: str, draw: Draw, form: Form | None) -> None:
    found = network(name, draw=draw, density=1.0)
    for each in samplings(found):
        assert each.predict.bias is not None
        nn.init.constant_(each.predict.bias, 100.0)
    weights = {key.replace(".body.", "."): value for key, value in found.state_dict().items()}
    unmasked = build(plain(found.architecture)).eval()
    unmasked.load_state_dict({key: weights[key] for key in unmasked.state_dict()})
    x = images(2)
    expected = unmasked(x)
    made = found if form is None else sparse(found, form=form)
    assert torch.allclose(made(x), expected, rtol=1e-4, atol=1e-5)
    # The plain network has such a form too.
    assert torch.allclose(sparse(unmasked)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("form", ["positions", "tiles"])
def test_it_runs_anywhere_and_can_be_copied_and_kept(name: str, form: Form, tmp_path: Path) -> None:
    found, x = network(name, fill="rbf"), images(2)
    quick = sparse(found, form=form)
    expected = quick(x)
    assert not expected.requires_grad
    assert torch.equal(copy.deepcopy(quick)(x), expected)
    torch.save(quick, tmp_path / "quick.pt")
    assert torch.equal(torch.load(tmp_path / "quick.pt", weights_only=False)(x), expected)
    assert all(parameter.requires_grad for parameter in found.parameters())


@torch.inference_mode()
def test_groups_stay_as_they_are_and_training_is_refused() -> None:
    found = trained(
        build(sampled(architecture("resnext50_32x4d", width=0.125, nominal=32, classes=5), Policy())).eval()
    )
    assert torch.allclose(sparse(found)(images()), found(images()), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="training mode"):
        sparse(found.train())


@pytest.mark.parametrize("form", ["positions", "tiles"])
@torch.inference_mode()
def test_break_even_is_a_share_for_every_convolution_and_block(form: Form) -> None:
    found = network("resnet18", fill="zero", tile=2)
    x = images(1)
    table = break_even(found, x, form)
    assert all(0 <= choice.break_even <= 1 for choice in table.values())
    assert sum(isinstance(name[0], int) for name in table) == 10
    for block in sparse(found, form=form).blocks:
        if isinstance(block, MaskedBlock):
            assert block.key((len(x), *x.shape[-2:])) in table
        x = block(x)


@pytest.mark.parametrize("form", ["positions", "tiles"])
@torch.inference_mode()
def test_break_even_of_grey_images(form: Form) -> None:
    plain_grey = architecture("resnet50", base_width=0.125, nominal=32, classes=5, channels=1)
    found = trained(build(sampled(plain_grey, Policy(fill="zero", grid=0))).eval())
    x = torch.randn(2, 1, 20, 20)
    quick = sparse(found, break_even(found, x, form), form)
    assert torch.allclose(quick(x), found(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["positions", "tiles"])
@torch.inference_mode()
def test_a_block_beyond_its_break_even_is_computed_everywhere(form: Form) -> None:
    found = network("resnet50", fill="zero", draw="budget", density=0.5, grid=0)
    block = next(each for each in sparse(found, form=form).blocks if isinstance(each, MaskedBlock))
    x = torch.rand(2, block.first.weight.shape[1], 8, 8).contiguous(memory_format=torch.channels_last)
    masks = block.masks(x)
    assert abs(block.density(masks) - 0.5) < 0.02
    assert torch.allclose(block.masked(x.clone(), masks), block.on(x.clone(), masks), rtol=1e-4, atol=1e-5)
    block.table = {block.key((2, 8, 8)): Choice(break_even=0.6)}
    placed = block(x.clone())
    block.table = {block.key((2, 8, 8)): Choice(break_even=0.4)}
    assert torch.equal(block(x.clone()), block.masked(x.clone(), masks))
    assert torch.allclose(block(x.clone()), placed, rtol=1e-4, atol=1e-5)


def test_other_precisions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"for float32 only, not torch\.bfloat16: call float"):
        sparse(network("resnet18").bfloat16())


def test_blocks_are_told_apart_by_their_place() -> None:
    made = sampled(BACKBONES["resnet18"], Policy(density=0.5))
    assert [block.place for block in sampled_blocks(made)] == list(range(8))
    assert all(isinstance(block, Sampled) for block in sampled_blocks(made))
    streams = [each.stream for each in samplings(build(made, "meta"))]
    assert len(set(streams)) == len(streams) == 16
