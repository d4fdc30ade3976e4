"""Channels sorted by importance: outputs are unchanged, and leading slices keep the important channels."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paretofit.models.architecture import Architecture
from paretofit.models.build import Network, build
from paretofit.models.channel_groups import channel_groups
from paretofit.models.channel_order import importance, l1_importance, sort_channels
from paretofit.models.families.registry import FAMILIES, architecture
from paretofit.models.kinds.basic import Classifier, Conv
from paretofit.models.layers.slimmable import Slimmable
from tests.models.forms import DEEP, FORMS
from tests.models.layers.device_syncs import device_syncs

SLIMMABLE = ["wrn_16_2" if name == "wrn_D_K" else name for name, family in FAMILIES.items() if family.slimmable]


def small(family: str, width: float = 1.0, nominal: int = 32) -> Architecture:
    return architecture(
        family, width=width, slimmable=True, base_width=0.5 if "wrn" in family else 0.125, nominal=nominal, classes=10
    )


def trained(network: Architecture, seed: int = 0, dtype: torch.dtype = torch.float64) -> Network:
    """A network with random weights and random batch-normalization statistics, in evaluation mode."""
    torch.manual_seed(seed)
    result = build(network).to(dtype)
    for module in result.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return result.eval()


def images(network: Network, count: int = 4, seed: int = 1, size: tuple[int, int] = (24, 20)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    reference = next(network.parameters())
    return torch.randn(count, network.architecture.channels, *size, generator=generator).to(reference)


def shuffled_copy(network: Network, seed: int) -> Network:
    """A copy with its channels in a random order."""
    generator = torch.Generator().manual_seed(seed)
    result = copy.deepcopy(network)
    sort_channels(
        result,
        {group.name: torch.rand(group.channels, generator=generator) for group in channel_groups(result.architecture)},
    )
    return result


def sorted_copy(network: Network) -> Network:
    """A sorted copy."""
    result = copy.deepcopy(network)
    sort_channels(result, importance(result, [images(result)]))
    return result


def leading(network: Network, sub: Architecture) -> Network:
    """The narrower network of the leading weights and statistics, built without slimmable code."""
    narrow = build(sub).to(next(network.parameters()).dtype)
    wide = network.state_dict()
    state = {
        name: wide[name][tuple(map(slice, tensor.shape))] if tensor.dim() else wide[name]
        for name, tensor in narrow.state_dict().items()
    }
    narrow.load_state_dict(state)
    return narrow.eval()


def largest_change(before: Tensor, after: Tensor) -> float:
    return ((before - after).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize(
    ("width", "nominal"),
    [
        pytest.param(width, nominal, marks=() if (width, nominal) == (0.6, 32) else pytest.mark.slow)
        for width in (0.6, 1.0)
        for nominal in (16, 32, 64, 224)
    ],
)
@pytest.mark.parametrize("family", [pytest.param(f, marks=pytest.mark.slow if f in DEEP else ()) for f in SLIMMABLE])
@torch.no_grad()
def test_sorting_leaves_the_outputs_unchanged(family: str, width: float, nominal: int) -> None:
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        network = trained(small(family, width, nominal), dtype=dtype)
        ordered = sorted_copy(network)
        x = images(network, seed=2)
        assert any(
            not torch.equal(one, other) for one, other in zip(network.parameters(), ordered.parameters(), strict=True)
        )
        assert largest_change(network(x), ordered(x)) <= bound


@pytest.mark.parametrize(
    "name", [name for name in FORMS if "shaped" in name or "net_v1 g" in name or "scalenet20" in name]
)
@torch.no_grad()
def test_kinds_with_a_fixed_order_keep_their_outputs(name: str) -> None:
    network = trained(FORMS[name])
    x = images(network)
    assert largest_change(network(x), sorted_copy(network)(x)) <= 1e-9


@pytest.mark.parametrize("family", [family for family in SLIMMABLE if family not in DEEP])
@torch.no_grad()
def test_sorting_keeps_outputs_of_published_widths_in_single_precision(family: str) -> None:
    network = trained(architecture(family, classes=10, nominal=32), dtype=torch.float32)
    x = images(network)
    assert largest_change(network(x), sorted_copy(network)(x)) <= 1e-4


@pytest.mark.parametrize("family", SLIMMABLE)
@torch.no_grad()
def test_sorted_slice_recovers_scattered_important_channels(family: str) -> None:
    full, sub = small(family), small(family, 0.5)
    network = trained(full)
    weights, narrow = network.state_dict(), build(sub, "meta").state_dict()
    for group in channel_groups(full):
        for name in group.columns:
            weights[name][:, narrow[name].shape[1] :] = 0
    x = images(network)
    expected = network(x)
    scattered = shuffled_copy(network, seed=5)
    assert largest_change(expected, scattered(x)) <= 1e-9
    assert largest_change(expected, leading(scattered, sub)(x)) > 0.1
    assert largest_change(expected, leading(sorted_copy(scattered), sub)(x)) <= 1e-9


@torch.no_grad()
def test_slimmable_slices_lose_less_after_sorting() -> None:
    full, sub = small("mobilenet_v1"), small("mobilenet_v1", 0.5)
    network = trained(full)
    weights = network.state_dict()
    for group in channel_groups(full):
        for name in group.columns:
            # Contributions of very different magnitudes, in random order.
            scales = torch.logspace(0, -2, group.channels, dtype=torch.float64)[torch.randperm(group.channels)]
            weights[name].transpose(1, -1).mul_(scales)
    x = images(network, count=16)
    errors = [largest_change(network(x), leading(made, sub)(x)) for made in (network, sorted_copy(network))]
    assert errors[1] < 0.5 * errors[0]


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), family=st.sampled_from(["mobilenet_v2", "resnet18", "resnext50_32x4d", "wrn_10_1"]))
@torch.no_grad()
def test_sorting_does_not_depend_on_the_initial_order(seed: int, family: str) -> None:
    network = trained(small(family))
    x = images(network, count=64)
    # Calibrated on these images, so that no channel is 0 for all of them, which would give ties.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(x)
    shuffled = shuffled_copy(network, seed)
    for each_network in (network, shuffled):
        values = importance(each_network, [x])
        assert all(each.sort().values.diff().all() for each in values.values())
        sort_channels(each_network, values)
    expected = network.state_dict()
    for name, tensor in shuffled.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def _plain() -> Network:
    """3 -> 5 channels, depthwise, -> 4 channels, classifier."""
    return trained(
        Architecture(
            "plain",
            nominal=8,
            channels=3,
            classes=2,
            blocks=(
                Conv(3, 6, 3, 1, 1, norm=True, activation="relu"),
                Conv(6, 6, 3, 2, 6, norm=True, activation="relu"),
                Conv(6, 4, 1, 1, 1, norm=True, activation="relu"),
                Classifier(4, 2),
            ),
        )
    )


@torch.no_grad()
def test_importance_is_the_mean_input_times_the_weights() -> None:
    network = _plain()
    batches = [images(network, count, seed=count, size=(10, 8)) for count in (3, 5)]
    weights = network.state_dict()
    inputs = torch.cat([network.blocks[:2](batch) for batch in batches]).abs().mean((0, 2, 3))
    last = torch.cat([network.blocks[:3](batch) for batch in batches]).mean((2, 3)).abs().mean(0)
    values = importance(network, batches)
    assert list(values) == ["blocks.0.conv", "blocks.2.conv"]
    first, second = weights["blocks.2.conv.weight"], weights["blocks.3.linear.weight"]
    torch.testing.assert_close(values["blocks.0.conv"], inputs * first.abs().sum((0, 2, 3)))
    torch.testing.assert_close(values["blocks.2.conv"], last * second.abs().sum(0))
    l1 = l1_importance(network)
    torch.testing.assert_close(l1["blocks.0.conv"], first.abs().sum((0, 2, 3)))
    torch.testing.assert_close(l1["blocks.2.conv"], second.abs().sum(0))


@torch.no_grad()
def test_importance_of_a_stream_is_summed_over_its_readers() -> None:
    network = trained(small("resnet18", nominal=64))
    group = next(group for group in channel_groups(network.architecture) if group.name == "blocks.3.second.conv")
    x = images(network)
    stream = {3: network.blocks[:4](x), 4: network.blocks[:5](x)}
    readers = {
        "blocks.4.first.conv": stream[3],
        "blocks.5.first.conv": stream[4],
        "blocks.5.shortcut.conv": stream[4],
    }
    assert group.columns == tuple(f"{name}.weight" for name in readers)
    expected = torch.stack(
        [
            entering.abs().mean((0, 2, 3)) * network.get_parameter(f"{name}.weight").abs().sum((0, 2, 3))
            for name, entering in readers.items()
        ]
    ).sum(0)
    torch.testing.assert_close(importance(network, [x])[group.name], expected)


def test_equal_channels_keep_their_order() -> None:
    network = _plain()
    before = copy.deepcopy(network.state_dict())
    ties = {group.name: torch.ones(group.channels) for group in channel_groups(network.architecture)}
    sort_channels(network, ties)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    sort_channels(network, ties | {"blocks.0.conv": torch.tensor([1.0, 3, 1, 2, 3, 1])})
    order = torch.tensor([1, 4, 3, 0, 2, 5])
    after = network.state_dict()
    for name in ("blocks.0.conv.weight", "blocks.0.norm.running_mean", "blocks.1.conv.weight", "blocks.1.norm.bias"):
        assert torch.equal(after[name], before[name][order])
    assert torch.equal(after["blocks.2.conv.weight"], before["blocks.2.conv.weight"][:, order])
    assert torch.equal(after["blocks.3.linear.weight"], before["blocks.3.linear.weight"])


def test_grouped_convolution_units_are_moved_whole() -> None:
    network = trained(small("resnext50_32x4d"))
    group = next(group for group in channel_groups(network.architecture) if group.unit > 1)
    values = {each.name: torch.zeros(each.channels) for each in channel_groups(network.architecture)}
    # The largest channel is in the last unit, the largest sum in the one before it.
    values[group.name].view(-1, group.unit)[-1, 0] = 3.0
    values[group.name].view(-1, group.unit)[-2] = 1.0
    before = network.state_dict()[group.rows[0]].clone()
    sort_channels(network, values)
    units = list(range(group.channels // group.unit))
    order = [*units[-2:], *units[:-2]]
    expected = before.view(len(units), group.unit, *before.shape[1:])[order].flatten(0, 1)
    assert torch.equal(network.state_dict()[group.rows[0]], expected)


def test_tensors_are_sorted_in_place_and_keep_memory_format() -> None:
    network = trained(small("mobilenet_v2"))
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    before = {name: (tensor.data_ptr(), tensor.stride()) for name, tensor in network.state_dict().items()}
    sort_channels(network, importance(network, [images(network)]))
    assert {name: (tensor.data_ptr(), tensor.stride()) for name, tensor in network.state_dict().items()} == before
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_measuring_importance_does_not_modify_the_network() -> None:
    network = trained(small("resnet18"))
    network.train()
    network.blocks[0].eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    values = importance(network, [images(network)])
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    network.eval()
    torch.testing.assert_close(importance(network, [images(network)]), values, rtol=0, atol=0)
    with pytest.raises(RuntimeError):
        importance(network, [images(network)[:, :1]])
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_sorting_has_no_device_sync() -> None:
    network = trained(small("mobilenet_v2"))
    batches = [images(network, seed=seed) for seed in (1, 2)]
    assert device_syncs(lambda: importance(network, batches)) == []


def test_invalid_importances_are_rejected() -> None:
    network = _plain()
    with pytest.raises(ValueError, match="at least one batch"):
        importance(network, [])
    values = importance(network, [images(network)])
    with pytest.raises(ValueError, match=re.escape("importance: blocks.0.conv is missing")):
        sort_channels(network, {"blocks.2.conv": values["blocks.2.conv"]})
    with pytest.raises(ValueError, match=re.escape("importance: blocks.1.conv is unknown")):
        sort_channels(network, values | {"blocks.1.conv": torch.ones(6)})
    with pytest.raises(ValueError, match=re.escape("blocks.0.conv must be [6], not [4]")):
        sort_channels(network, values | {"blocks.0.conv": torch.ones(4)})
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match=re.escape("blocks.2.conv must be finite")):
        sort_channels(network, values | {"blocks.2.conv": torch.full((4,), torch.nan)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    shared = Slimmable(small("mobilenet_v1")).network
    for call in (lambda: importance(shared, []), lambda: sort_channels(shared, {})):
        with pytest.raises(ValueError, match="no running statistics"):
            call()
