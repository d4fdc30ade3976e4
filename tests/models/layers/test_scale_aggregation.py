"""Scale aggregation: outputs of a block, and equivalence of its faster forms."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.architecture import Architecture
from paretofit.models.build import Network, build
from paretofit.models.families.registry import architecture
from paretofit.models.kinds import aggregation
from paretofit.models.layers import fast_scale_aggregation as fast_forms
from paretofit.models.layers.fast_scale_aggregation import FastBasic, JoinedBottleneck, SlicedBottleneck, fast, forms
from paretofit.models.layers.scale_aggregation import (
    Branch,
    FloorPool,
    ScaleAggregation,
    ScaleBasic,
    ScaleBottleneck,
    Upsample,
)

BOTTLENECKS = architecture("scalenet50_light", base_width=0.25, classes=10)
BASICS = architecture("scalenet20", nominal=32, classes=10)
SIZES = ((224, 224), (225, 225), (320, 256), (32, 32), (37, 90))


def randomized(module: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics and scales as after training."""
    torch.manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low, high in (
                (norm.weight.data, -1.5, 1.5),
                (norm.bias.data, -0.5, 0.5),
                (norm.running_mean, -0.5, 0.5),
                (norm.running_var, 0.5, 2.0),
            ):
                assert tensor is not None
                tensor.uniform_(low, high)
    return module.eval()


def network(described: Architecture) -> Network:
    torch.manual_seed(0)
    result = randomized(build(described))
    assert isinstance(result, Network)
    return result


def silence(module: nn.Module) -> None:
    """Make its normalizations output zeros."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)


def images(size: tuple[int, int], count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


def with_form(place: int, network: Network) -> Network:
    """Replace every block by one of its faster forms."""
    for i, block in enumerate(network.blocks):
        if faster := forms(block):
            network.blocks[i] = faster[place]
    return network


def test_branch_pools_convolves_upsamples_and_normalizes() -> None:
    module = randomized(ScaleAggregation(aggregation.ScaleAggregation(6, 14, (1, 2, 4, 7), (5, 4, 3, 2), (3, 3, 3, 1))))
    assert isinstance(module, ScaleAggregation)
    for size, modes in (
        ((8, 12), ("", "nearest", "nearest", "nearest")),
        ((7, 9), ("", "bilinear", "bilinear", "nearest")),
    ):
        x = torch.randn(2, 6, *size)
        expected = []
        for branch, scale, mode in zip(module.branches, (1, 2, 4, 7), modes, strict=True):
            assert isinstance(branch, Branch)
            small = F.max_pool2d(x, scale)
            kernel = 1 if scale == 7 else 3
            features = F.conv2d(small, branch.conv.weight, padding=kernel // 2)
            if mode:
                features = F.interpolate(features, size, mode=mode)
            expected.append(branch.norm(features))
        torch.testing.assert_close(module(x), torch.cat(expected, dim=1))


def test_pool_window_is_limited_to_the_shorter_side_of_the_map() -> None:
    x = torch.randn(1, 2, 3, 8)
    assert torch.equal(FloorPool(7)(x), F.max_pool2d(x, 3))
    assert torch.equal(FloorPool(2)(x[:, :, :1]), x[:, :, :1])


def test_upsampling_repeats_pixels_only_if_sizes_divide() -> None:
    x = torch.randn(1, 2, 3, 4)
    assert torch.equal(Upsample()(x, (6, 12)), x.repeat_interleave(2, 2).repeat_interleave(3, 3))
    interpolated = Upsample()(x, (7, 9))
    torch.testing.assert_close(interpolated, F.interpolate(x, (7, 9), mode="bilinear", align_corners=False))


def test_stride_pools_before_both_paths() -> None:
    inner = aggregation.ScaleAggregation(4, 6, (1, 2), (4, 2), (3, 3))
    strided = randomized(ScaleBottleneck(aggregation.ScaleBottleneck(8, 4, 16, 2, projection=True, aggregation=inner)))
    plain = copy.deepcopy(strided)
    plain.pool = nn.Identity()
    x = torch.randn(2, 8, 9, 6)
    assert torch.equal(strided(x), plain(F.max_pool2d(x, 2)))
    assert strided(x).shape == (2, 16, 4, 3)


def test_identity_shortcut_is_activated_after_the_sum() -> None:
    inner = aggregation.ScaleAggregation(4, 4, (1, 7), (2, 2), (3, 3))
    bottleneck = randomized(
        ScaleBottleneck(aggregation.ScaleBottleneck(8, 4, 8, 1, projection=False, aggregation=inner))
    )
    silence(bottleneck.get_submodule("expand"))
    x = torch.randn(2, 8, 7, 7)
    before = x.clone()
    assert torch.equal(bottleneck(x), x.relu())
    basic = randomized(ScaleBasic(aggregation.ScaleBasic(4, 4, 1, projection=False, first=inner, second=inner)))
    silence(basic.get_submodule("second"))
    assert torch.equal(basic(x[:, :4]), x[:, :4].relu())
    assert torch.equal(x, before)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("place", "described"), [(0, BOTTLENECKS), (1, BOTTLENECKS), (0, BASICS)])
def test_faster_forms_are_equivalent(
    size: tuple[int, int], memory_format: torch.memory_format, place: int, described: Architecture
) -> None:
    plain, other = network(described), with_form(place, network(described))
    x = images(size, 1).contiguous(memory_format=memory_format)
    with torch.inference_mode():
        expected, result = plain(x), other(x)
        scale = float(expected.abs().max())
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * max(1.0, scale))


@pytest.mark.parametrize(("place", "described"), [(0, BOTTLENECKS), (1, BOTTLENECKS), (0, BASICS)])
def test_faster_forms_differ_only_by_rounding(place: int, described: Architecture) -> None:
    x = images((37, 90)).double()
    with torch.inference_mode():
        expected = network(described).double()(x)
        result = with_form(place, network(described).double())(x)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_fast_selects_the_fastest_measured_form_per_block() -> None:
    def preferring(kinds: tuple[type[nn.Module], ...]) -> list[str]:
        def measure(modules: Sequence[nn.Module], x: Tensor) -> list[float]:
            assert x.shape[0] == 2
            return [0.5 if type(module) in kinds else 1.0 for module in modules]

        selected = fast(plain, images((64, 64)), measure)
        return [type(block).__name__ for block in selected.blocks][2:-1]

    plain = network(BOTTLENECKS)
    state = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    assert set(preferring((ScaleBottleneck,))) == {"ScaleBottleneck"}
    assert set(preferring((JoinedBottleneck,))) == {"JoinedBottleneck"}
    assert set(preferring((SlicedBottleneck,))) == {"SlicedBottleneck"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state_dict().items())
    measured = fast(plain, images((64, 64)))
    with torch.inference_mode():
        for size in ((64, 64), (50, 77)):
            torch.testing.assert_close(measured(images(size)), plain(images(size)), rtol=1e-4, atol=1e-4)
    assert not forms(plain.blocks[0])
    assert isinstance(forms(build(BASICS).eval().blocks[1])[0], FastBasic)


def test_fast_rejects_networks_in_training_mode() -> None:
    with pytest.raises(ValueError, match=r"call eval\(\) first"):
        fast(build(BASICS), images((32, 32)))


def test_two_networks_can_be_built_in_one_process() -> None:
    first, second = build(BOTTLENECKS, "meta"), build(BOTTLENECKS, "meta")
    assert first.state_dict().keys() == second.state_dict().keys()


def test_gradients_reach_every_parameter() -> None:
    for described in (BOTTLENECKS, BASICS):
        trained = build(described)
        trained(images((32, 32), 8)).logsumexp(1).sum().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained.parameters())


def test_interleaved_measurement_runs_on_the_device_of_the_map() -> None:
    assert all(seconds > 0 for seconds in fast_forms.interleaved([nn.Identity(), nn.ReLU()], torch.ones(1, 2, 3, 3)))
