"""Weights of one network at every width: slicing, statistics, extraction."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture, channel_vector
from paretofit.models.build import Network, build
from paretofit.models.families.registry import architecture
from paretofit.models.layers.slimmable import Slimmable, UncalibratedError


def fd_mobilenet(width: float) -> Architecture:
    return architecture(
        "fd_mobilenet", width=width, slimmable=True, base_width=0.25, nominal=32, classes=10, channels=1
    )


def mobilenet_v1(width: float) -> Architecture:
    return architecture("mobilenet_v1", width=width, slimmable=True, base_width=0.25, nominal=32, classes=10)


def wide_resnet(width: float) -> Architecture:
    return architecture("wrn_10_2", width=width, slimmable=True, nominal=32, classes=10)


def mobilenet_v2(width: float) -> Architecture:
    return architecture("mobilenet_v2", width=width, slimmable=True, base_width=0.25, nominal=32, classes=10)


def resnet18(width: float) -> Architecture:
    return architecture("resnet18", width=width, slimmable=True, base_width=0.125, nominal=64, classes=10)


def resnet50(width: float) -> Architecture:
    return architecture("resnet50", width=width, slimmable=True, base_width=0.125, nominal=128, classes=10)


def resnext50(width: float) -> Architecture:
    return architecture("resnext50_32x4d", width=width, slimmable=True, base_width=0.125, nominal=32, classes=10)


def vgg16(width: float) -> Architecture:
    return architecture("vgg16", width=width, slimmable=True, base_width=0.125, nominal=32, classes=10)


FAMILIES = [fd_mobilenet, mobilenet_v1, mobilenet_v2, resnet18, resnet50, resnext50, vgg16, wide_resnet]
SIZE = (24, 20)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def images(network: Architecture, count: int = 8, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(count, network.channels, *size)


def formatted(network: Any, memory_format: torch.memory_format) -> Any:
    """`Any`, because torch's stubs lack this overload of `to`."""
    return network.to(memory_format=memory_format)


def copied(slim: Slimmable, sub: Architecture) -> Network:
    """A narrow network built without slimmable code, filled with the leading weights of the full network."""
    narrow = build(sub)
    with torch.no_grad():
        for module, wide in zip(narrow.modules(), slim.network.modules(), strict=True):
            match module, wide:
                case nn.Conv2d(), nn.Conv2d():
                    outputs, inputs = module.weight.shape[:2]
                    module.weight.copy_(wide.weight[:outputs, :inputs])
                case nn.BatchNorm2d(), nn.BatchNorm2d():
                    module.weight.copy_(wide.weight[: module.num_features])
                    module.bias.copy_(wide.bias[: module.num_features])
                case nn.Linear(), nn.Linear():
                    module.weight.copy_(wide.weight[:, : module.in_features])
                    module.bias.copy_(wide.bias)
    return narrow


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [0.25, 0.6, 1.0])
def test_slices_equal_the_narrow_network(family: type, width: float) -> None:
    slim, sub = Slimmable(family(1.0)), family(width)
    narrow = copied(slim, sub)
    x = images(sub)
    assert torch.equal(slim(x, sub), narrow(x))


def test_full_network_runs_by_default() -> None:
    slim = Slimmable(fd_mobilenet(1.0))
    x = images(slim.architecture)
    assert torch.equal(slim(x), copied(slim, slim.architecture)(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_the_narrow_network_and_are_zero_elsewhere(family: type) -> None:
    # In float64: in float32 the gradients of deep networks differ by the summation order.
    slim, sub = Slimmable(family(1.0)).double(), family(0.4)
    narrow = copied(slim, sub).double()
    x = images(sub).double()
    for logits in (slim(x, sub), narrow(x)):
        logits.log_softmax(1).diagonal().sum().backward()
    expected = dict(narrow.named_parameters())
    for name, parameter in slim.network.named_parameters():
        assert parameter.grad is not None
        grad = expected[name].grad
        assert grad is not None
        region = tuple(map(slice, grad.shape))
        torch.testing.assert_close(parameter.grad[region], grad, rtol=1e-4, atol=1e-7)
        outside = parameter.grad.clone()
        outside[region] = 0
        assert not outside.any()


def test_gradients_of_several_widths_accumulate() -> None:
    slim = Slimmable(fd_mobilenet(1.0))
    x = images(slim.architecture)
    weight = next(slim.network.parameters())
    grads = []
    for subs in ([0.25], [1.0], [0.25, 1.0]):
        slim.zero_grad()
        for width in subs:
            slim(x, fd_mobilenet(width)).square().sum().backward()
        assert weight.grad is not None
        grads.append(weight.grad.clone())
    torch.testing.assert_close(grads[0] + grads[1], grads[2])


def test_training_does_not_keep_statistics() -> None:
    slim = Slimmable(fd_mobilenet(1.0))
    before = {name: tensor.clone() for name, tensor in slim.state().items()}
    x = images(slim.architecture)
    for width in (1.0, 0.5):
        slim(x, fd_mobilenet(width))
    assert list(slim.buffers()) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in slim.state().items())


def test_training_has_no_device_sync() -> None:
    """On the meta device, reading a tensor value raises."""
    slim = Slimmable(fd_mobilenet(1.0), device="meta")
    x = torch.empty(4, 1, *SIZE, device="meta")
    for width in (1.0, 0.5):
        slim(x, fd_mobilenet(width)).sum().backward()
    assert all(parameter.grad is not None for parameter in slim.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_are_averaged_over_batches(family: type) -> None:
    """As torch's batch normalization averages with momentum None."""
    slim, sub = Slimmable(family(1.0)), family(0.5)
    batches = [images(sub) for _ in range(3)]
    slim.calibrate(sub, batches)
    narrow = copied(slim, sub)
    for module in narrow.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for batch in batches:
            narrow(batch)
        narrow.eval()
        slim.eval()
        x = images(sub)
        torch.testing.assert_close(slim(x, sub), narrow(x), rtol=1e-4, atol=1e-5)


def test_second_calibration_replaces_the_first() -> None:
    slim, sub = Slimmable(fd_mobilenet(1.0)), fd_mobilenet(0.5)
    x = images(sub)
    slim.calibrate(sub, [x])
    (first,) = slim.bank.values()
    slim.calibrate(sub, [images(sub), images(sub)])
    slim.calibrate(sub, [x])
    (second,) = slim.bank.values()
    assert torch.equal(first, second)


def test_evaluation_without_statistics_raises() -> None:
    slim, sub = Slimmable(fd_mobilenet(1.0)), fd_mobilenet(0.5)
    slim.calibrate(sub, [images(sub)])
    slim.eval()
    assert slim(images(sub), sub).shape == (8, 10)
    assert slim.calibrated(sub, SIZE)
    for other, size in ((sub, (20, 20)), (fd_mobilenet(1.0), SIZE)):
        assert not slim.calibrated(other, size)
        with pytest.raises(UncalibratedError, match=rf"at {size[0]}x{size[1]}: call calibrate\(\)"):
            slim(images(other, size=size), other)
        with pytest.raises(UncalibratedError):
            slim.extract(other, size)


def test_statistics_are_keyed_by_channels_and_size() -> None:
    slim = Slimmable(mobilenet_v1(1.0))
    one, same, other = mobilenet_v1(0.5), mobilenet_v1(0.5003), mobilenet_v1(0.9)
    for sub, size in ((one, SIZE), (same, SIZE), (other, SIZE), (one, (16, 16))):
        slim.calibrate(sub, [images(sub, size=size)])
    assert set(slim.bank) == {
        (channel_vector(one), SIZE),
        (channel_vector(other), SIZE),
        (channel_vector(one), (16, 16)),
    }


def test_training_discards_stale_statistics() -> None:
    slim, sub = Slimmable(fd_mobilenet(1.0)), fd_mobilenet(0.5)
    slim.calibrate(sub, [images(sub)])
    slim(images(sub), sub)
    slim.eval()
    with pytest.raises(UncalibratedError):
        slim(images(sub), sub)


def test_calibration_rejects_empty_input_and_mixed_sizes() -> None:
    slim, sub = Slimmable(fd_mobilenet(1.0)), fd_mobilenet(0.5)
    with pytest.raises(ValueError, match="at least one batch"):
        slim.calibrate(sub, [])
    with pytest.raises(ValueError, match=re.escape("not both (24, 20) and (20, 20)")):
        slim.calibrate(sub, [images(sub), images(sub, size=(20, 20))])
    assert not slim.bank


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("width", [0.37, 1.0])
def test_extraction_is_bit_identical(
    family: type, memory_format: torch.memory_format, width: float, tmp_path: Path
) -> None:
    sub = family(width)
    slim = formatted(Slimmable(family(1.0)), memory_format)
    slim.calibrate(sub, [images(sub).to(memory_format=memory_format) for _ in range(2)])
    slim.eval()
    static = slim.extract(sub, SIZE)
    checkpoint.save(tmp_path / "point.safetensors", static, {"architecture": sub.to_json()})
    loaded = formatted(checkpoint.load(tmp_path / "point.safetensors"), memory_format)
    with torch.no_grad():
        for count in (1, 7, 32):
            x = images(sub, count).to(memory_format=memory_format)
            logits = slim(x, sub)
            assert logits.std() > 0
            assert torch.equal(logits, static(x))
            assert torch.equal(logits, loaded(x))


def test_extracted_network_is_static_and_independent() -> None:
    slim, sub = Slimmable(fd_mobilenet(1.0)), fd_mobilenet(0.5)
    slim.calibrate(sub, [images(sub)])
    static = slim.extract(sub, SIZE)
    x = images(sub)
    before = static(x)
    assert type(static) is Network
    assert static.architecture == sub
    assert not static.training
    assert [(n, t.shape) for n, t in static.state_dict().items()] == [
        (n, t.shape) for n, t in build(sub, "meta").state_dict().items()
    ]
    with torch.no_grad():
        for tensor in slim.state().values():
            tensor.fill_(3)
    assert torch.equal(static(x), before)


def test_state_round_trips_through_a_file(tmp_path: Path) -> None:
    slim, sub = Slimmable(fd_mobilenet(1.0)), fd_mobilenet(0.5)
    for size in (SIZE, (16, 16)):
        slim.calibrate(sub, [images(sub, size=size)])
    checkpoint.write(tmp_path / "supernet.safetensors", slim.state(), {})
    tensors, _ = checkpoint.read(tmp_path / "supernet.safetensors")
    restored = Slimmable(fd_mobilenet(1.0))
    restored.load_state(tensors)
    assert set(restored.bank) == set(slim.bank)
    x = images(sub)
    assert torch.equal(slim.eval()(x, sub), restored.eval()(x, sub))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("blocks.0.conv.weight", None, "blocks.0.conv.weight is missing"),
        ("blocks.99.weight", torch.zeros(1), "blocks.99.weight is not a parameter of this network"),
        ("blocks.0.norm.bias", torch.zeros(3), re.escape("blocks.0.norm.bias is (3,), not (8,)")),
        ("bank.odd", torch.zeros(2, 3), "bank.odd is not a name of batch norm statistics"),
    ],
)
def test_mismatched_state_is_rejected_without_partial_load(name: str, value: Tensor | None, message: str) -> None:
    slim = Slimmable(fd_mobilenet(1.0))
    state = {key: tensor + 1 for key, tensor in slim.state().items()}
    state.pop(name, None)
    if value is not None:
        state[name] = value
    before = [parameter.clone() for parameter in slim.parameters()]
    with pytest.raises(ValueError, match=message):
        slim.load_state(state)
    assert all(map(torch.equal, slim.parameters(), before))


@pytest.mark.parametrize(
    ("sub", "message"),
    [
        (fd_mobilenet(1.6), "but the full network has 8"),
        (architecture("fd_mobilenet", base_width=0.25, nominal=64, classes=10, channels=1), "nominal is 64"),
        (architecture("fd_mobilenet", base_width=0.25, nominal=32, classes=9, channels=1), "classes is 9"),
        (architecture("fd_mobilenet", base_width=0.25, nominal=32, classes=10), "channels is 3"),
        (architecture("wrn_10_1", nominal=32, classes=10, channels=1), "layers cannot be cut from"),
    ],
)
def test_architectures_that_are_not_narrower_are_rejected(sub: Architecture, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Slimmable(fd_mobilenet(1.0))(images(sub), sub)


def test_partial_groups_are_rejected() -> None:
    """The leading weights of a group would read different channels than in the full network."""
    full = resnext50(1.0).to_json()
    sub = copy.deepcopy(full)
    sub["blocks"][1]["mid_channels"] //= 2
    with pytest.raises(ValueError, match=r"blocks.1.spatial.conv \(conv\) differs from the full network's"):
        Slimmable(Architecture.from_json(full))(images(resnext50(1.0)), Architecture.from_json(sub))


def test_different_activation_is_rejected() -> None:
    data = fd_mobilenet(0.5).to_json()
    data["blocks"][2]["activation"] = "relu6"
    sub = Architecture.from_json(data)
    with pytest.raises(ValueError, match=r"blocks.2.depthwise.act \(relu6\) differs"):
        Slimmable(fd_mobilenet(1.0))(images(sub), sub)


def test_width_above_one_is_the_full_network() -> None:
    """MutualNet's largest model has width 1.6, which is then the full network."""
    slim, sub = Slimmable(wide_resnet(1.6)), wide_resnet(1.0)
    x = images(sub)
    assert slim.architecture.blocks[1].out_channels == 48
    assert torch.equal(slim(x, sub), copied(slim, sub)(x))


def fixed_entry(full: Architecture) -> Tensor:
    """Means and variances of all batch normalizations, in layer order."""
    layers = full.layers((full.nominal, full.nominal))
    channels = sum(layer.output.channels for layer in layers if layer.op == "batch_norm")
    return torch.stack([0.1 * torch.randn(channels), 0.5 + torch.rand(channels)])


@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_statistics_equal_a_static_network_in_evaluation_mode(family: Any) -> None:
    full = family(1.0)
    network = Slimmable(full).train()
    entry = fixed_entry(full)
    network.fix_statistics(entry)
    static = build(full)
    static.load_state_dict(dict(network.network.named_parameters()), strict=False)
    begin = 0
    for layer in full.layers((full.nominal, full.nominal)):
        if layer.op == "batch_norm":
            norm = static.get_submodule(layer.name)
            end = begin + layer.output.channels
            norm.get_buffer("running_mean").copy_(entry[0, begin:end])
            norm.get_buffer("running_var").copy_(entry[1, begin:end])
            begin = end
    assert begin == entry.shape[1]
    static.eval()
    images = torch.randn(3, full.channels, *SIZE)
    torch.testing.assert_close(network(images), static(images))
    # Independent of the other images in the batch.
    torch.testing.assert_close(network(images)[:1], network(images[:1]))


def test_fixed_statistics_stay_constant_while_weights_train() -> None:
    full = fd_mobilenet(1.0)
    network = Slimmable(full).train()
    entry = fixed_entry(full)
    network.fix_statistics(entry)
    entry_before = entry.clone()
    entry.zero_()
    torch.autograd.backward(network(torch.randn(2, 1, *SIZE)).square().mean())
    assert network.fixed is not None
    assert torch.equal(network.fixed, entry_before)
    assert all(parameter.grad is not None for parameter in network.network.parameters())
    assert not network.bank


def test_fixed_statistics_are_saved_and_require_the_full_network() -> None:
    full = fd_mobilenet(1.0)
    network = Slimmable(full).train()
    network.fix_statistics(fixed_entry(full))
    with pytest.raises(
        ValueError, match="the fixed statistics belong to the full network: a narrower one cannot use them"
    ):
        network(torch.randn(2, 1, *SIZE), fd_mobilenet(0.5))
    other = Slimmable(full).train()
    other.fix_statistics(torch.zeros_like(fixed_entry(full)))
    other.load_state_dict(network.state_dict())
    images = torch.randn(2, 1, *SIZE)
    assert torch.equal(other(images), network(images))
    assert "fixed" not in Slimmable(full).state_dict()
