"""Sparse forms of sampled blocks, which save time."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paretofit.models.architecture import Architecture
from paretofit.models.build import build
from paretofit.models.families.registry import architecture
from paretofit.models.kinds.basic import Classifier
from paretofit.models.kinds.residual import ResidualBottleneck
from paretofit.models.kinds.sampling import Draw, Policy, plain, sampled
from paretofit.models.layers.folded_residual import Choice, extent
from paretofit.models.layers.masked_residual import MaskedBlock
from paretofit.models.layers.sparse import Form, _crossing, break_even, sparse
from paretofit.models.layers.spatial_sampling import samplings
from paretofit.models.layers.tiled_sampling import Tiles
from tests.models.layers.spatial import BACKBONES, images, network, with_trained_statistics

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
def test_sparse_forms_are_equivalent(name: str, policy: str, form: Form) -> None:
    model = network(name, **POLICIES[policy])
    fast = sparse(model, form=form)
    for size in ((32, 32), (23, 37)):
        x = images(2, size)
        before = x.clone()
        expected = model(x)
        assert float((fast(x) - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
        assert torch.equal(x, before)


@pytest.mark.parametrize("form", ["positions", "tiles"])
@pytest.mark.parametrize("policy", ["zero", "rbf of a budget"])
@torch.inference_mode()
def test_result_does_not_depend_on_break_even(form: Form, policy: str) -> None:
    model = network("resnet50", **POLICIES[policy])
    x = images(2)
    for choice in (Choice(break_even=0.0, product=False), Choice(break_even=1.0, product=True)):
        table = dict.fromkeys(break_even(model, x), choice)
        assert len(table) >= 8
        assert torch.allclose(sparse(model, table, form)(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", [None, "positions", "tiles"])
@pytest.mark.parametrize("draw", ["budget", "stochastic"])
@pytest.mark.parametrize("name", BACKBONES)
@torch.inference_mode()
def test_masks_of_ones_equal_the_plain_network(name: str, draw: Draw, form: Form | None) -> None:
    model = network(name, draw=draw, density=1.0)
    for each in samplings(model):
        assert each.predict.bias is not None
        nn.init.constant_(each.predict.bias, 100.0)
    weights = {key.replace(".body.", "."): value for key, value in model.state_dict().items()}
    unmasked = build(plain(model.architecture)).eval()
    unmasked.load_state_dict({key: weights[key] for key in unmasked.state_dict()})
    x = images(2)
    expected = unmasked(x)
    form_under_test = model if form is None else sparse(model, form=form)
    assert torch.allclose(form_under_test(x), expected, rtol=1e-4, atol=1e-5)
    # The plain network has a sparse form too.
    assert torch.allclose(sparse(unmasked)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("form", ["positions", "tiles"])
def test_sparse_form_can_be_copied_and_saved(name: str, form: Form, tmp_path: Path) -> None:
    model, x = network(name, fill="rbf"), images(2)
    fast = sparse(model, form=form)
    expected = fast(x)
    assert not expected.requires_grad
    assert torch.equal(copy.deepcopy(fast)(x), expected)
    torch.save(fast, tmp_path / "fast.pt")
    assert torch.equal(torch.load(tmp_path / "fast.pt", weights_only=False)(x), expected)
    assert all(parameter.requires_grad for parameter in model.parameters())
    # Interpolation buffers are in the state, so they follow the module to a device.
    assert {"positions": "exponents", "tiles": "sigma"}[form] in {name.rpartition(".")[2] for name in fast.state_dict()}


@torch.inference_mode()
def test_grouped_blocks_are_unchanged_and_training_mode_is_rejected() -> None:
    model = with_trained_statistics(
        build(sampled(architecture("resnext50_32x4d", width=0.125, nominal=32, classes=5), Policy())).eval()
    )
    assert torch.allclose(sparse(model)(images()), model(images()), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="training mode"):
        sparse(model.train())


@pytest.mark.parametrize("form", ["positions", "tiles"])
@torch.inference_mode()
def test_break_even_is_measured_for_every_convolution_and_block(form: Form) -> None:
    model = network("resnet18", fill="zero", tile=2)
    x = images(1)
    table = break_even(model, x, form)
    assert all(0 <= choice.break_even <= 1 for choice in table.values())
    # By role: first and second convolutions of the blocks of each stage, and shortcuts.
    roles = Counter(name[0] for name in table if isinstance(name[0], str))
    assert roles == {"first": 7, "second": 4, "shortcut": 3}
    for block in sparse(model, form=form).blocks:
        if isinstance(block, MaskedBlock):
            assert block.key((len(x), *x.shape[-2:])) in table
        x = block(x)


@pytest.mark.parametrize("form", ["positions", "tiles"])
@torch.inference_mode()
def test_break_even_of_gray_images(form: Form) -> None:
    plain_gray = architecture("resnet50", base_width=0.125, nominal=32, classes=5, channels=1)
    model = with_trained_statistics(build(sampled(plain_gray, Policy(fill="zero", grid=0))).eval())
    x = torch.randn(2, 1, 20, 20)
    fast = sparse(model, break_even(model, x, form), form)
    assert torch.allclose(fast(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("draw", ["budget", "stochastic", "gated"])
@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("form", ["positions", pytest.param("tiles", marks=pytest.mark.integration)])
@torch.inference_mode()
def test_block_above_its_break_even_is_computed_densely(form: Form, name: str, draw: Draw, product: bool) -> None:
    model = network(name, fill="zero", draw=draw, density=0.5, grid=0)
    x = images(2)
    sampled_table = dict.fromkeys(break_even(model, x, form), Choice(break_even=1.0))
    dense_table = dict.fromkeys(sampled_table, Choice(break_even=0.0, product=product))
    expected = sparse(model, sampled_table, form)(x)
    assert torch.allclose(sparse(model, dense_table, form)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("draw", ["budget", "stochastic"])
@pytest.mark.parametrize("form", ["positions", "tiles"])
@torch.inference_mode()
def test_mask_density_selects_the_execution_path(form: Form, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("resnet50", fill="zero", draw=draw, density=0.5, grid=0)
    block = next(each for each in sparse(model, form=form).blocks if isinstance(each, MaskedBlock))
    x = torch.rand(2, block.first.weight.shape[1], 8, 8).contiguous(memory_format=torch.channels_last)
    density = block.density([float(mask.mean()) for mask in block.masks(x)])
    assert 0.1 < density < 0.9
    paths: list[str] = []

    def recording(path: str, run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run_and_record(*args: Tensor) -> Tensor:
            paths.append(path)
            return run(*args)

        return run_and_record

    for path in ("on", "masked", "whole"):
        monkeypatch.setattr(block, path, recording(path, getattr(block, path)))
    outputs = []
    for even in (density + 0.05, density - 0.05):
        block.table = {block.key((2, 8, 8)): Choice(break_even=even)}
        outputs.append(block(x.clone()))
    assert paths == ["on", "whole" if draw == "budget" else "masked"]
    assert torch.allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("density", "computed"), [(0.4, 0.0), (0.6, 1.0)])
@torch.inference_mode()
def test_budget_of_few_tiles_equals_drawn_share(density: float, computed: float) -> None:
    model = network("resnet50", fill="zero", draw="budget", density=density, grid=0, tile=8)
    block = next(each for each in sparse(model).blocks if isinstance(each, MaskedBlock))
    x = torch.rand(2, block.first.weight.shape[1], 7, 7).contiguous(memory_format=torch.channels_last)
    assert block.budgets(extent(x)) == [computed] * 2 == [float(mask.mean()) for mask in block.masks(x)]


@pytest.mark.parametrize("form", ["positions", "tiles"])
@torch.inference_mode()
def test_budgets_reuse_the_product_of_the_first_convolution(form: Form) -> None:
    model, x = network("resnet50", fill="zero", draw="budget", density=0.5, grid=0), images(2)
    before = torch.get_rng_state()
    table = break_even(model, x, form)
    fast = sparse(model, {name: Choice(break_even=0.0) for name in table}, form)
    blocks = [each for each in fast.blocks if isinstance(each, MaskedBlock)]
    assert all(block.joint is not None for block in blocks)
    assert Counter(name[0] for name in table)["joint"] == 8
    separate_mask_calls: list[nn.Module] = []
    for block in blocks:
        block.masks.register_forward_hook(lambda module, inputs, masks: separate_mask_calls.append(module))
    assert torch.allclose(fast(x), model(x), rtol=1e-4, atol=1e-5)
    assert separate_mask_calls == []
    torch.set_rng_state(before)
    sparse(model, form=form)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("form", ["positions", "tiles"])
@torch.inference_mode()
def test_sparse_forms_support_single_channel_maps(form: Form) -> None:
    torch.manual_seed(0)
    body = ResidualBottleneck(1, 4, 16, stride=1, groups=1, projection=True)
    plain_one = Architecture("one", 32, 1, 5, (body, Classifier(16, 5)))
    model = with_trained_statistics(
        build(sampled(plain_one, Policy(density=0.5, draw="budget", fill="zero", grid=0))).eval()
    )
    x = torch.randn(3, 1, 9, 9)
    for role in ("first", "third", "shortcut"):
        for even in (0.0, 1.0):
            table = {name: Choice(break_even=even, product=name[0] == role) for name in break_even(model, x, form)}
            assert torch.allclose(sparse(model, table, form)(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("densities", "seconds", "expected"),
    [
        ((0.2, 0.5, 0.8), (0.4, 0.8, 1.2), 0.65),
        ((0.2, 0.5, 0.8), (0.6, 1.2, 1.3), 0.4),
        ((0.2, 0.5, 0.8), (0.4, 0.6, 0.8), 1.0),
        ((0.2, 0.5, 0.8), (1.1, 1.2, 1.3), 0.0),
        ((0.2, 0.5, 0.8), (0.5, 0.5, 0.5), 1.0),
        ((0.0, 0.0, 1.0), (0.5, 0.6, 1.4), 0.5),
        ((0.0, 1.0, 1.0), (0.5, 1.5, 1.4), 0.5),
    ],
)
def test_break_even_is_the_crossing_of_fitted_lines(
    densities: tuple[float, ...], seconds: tuple[float, ...], expected: float
) -> None:
    assert _crossing(densities, seconds) == pytest.approx(expected)


def test_only_float32_is_accepted() -> None:
    with pytest.raises(ValueError, match=r"for float32 only, not torch\.bfloat16: call float"):
        sparse(network("resnet18").bfloat16())


def test_tiled_form_computes_every_tile_with_a_sampled_position() -> None:
    """With masks by position almost every tile contains a sampled one."""
    shares = []
    for tile in (1, 8):
        each = next(samplings(network("resnet18", draw="budget", density=0.1, grid=0, tile=tile)))
        shares.append(Tiles.of(each.hard(torch.zeros(1, 1, 56, 56)), 8).density)
    assert shares[0] > 0.9
    assert shares[1] == round(0.1 * 49) / 49
