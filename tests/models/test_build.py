"""Torch modules match the architecture data: costs are counted on meta tensors, layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paretofit.models.build import build
from paretofit.models.cost import cost
from tests.models.forms import DEEP, FORMS, SIZES


class Counter:
    """Counts the costs of a forward pass with hooks, independently of `cost`."""

    def __init__(self, network: nn.Module) -> None:
        self.macs = 0
        self.pool_inputs = 0
        self.outputs: dict[str, tuple[int, ...]] = {}
        for name, module in network.named_modules():
            module.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d | nn.Linear):
                self.macs += output.numel() * module.weight[0].numel()
            if isinstance(module, nn.AdaptiveAvgPool2d):
                self.pool_inputs += inputs[0].numel()
            self.outputs[name] = tuple(output.shape[1:])

        return count


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in DEEP else ()) for name in FORMS])
def test_computed_costs_equal_counted_costs(name: str) -> None:
    architecture = FORMS[name]
    network = build(architecture, "meta").eval()
    params = sum(parameter.numel() for parameter in network.parameters())
    for size in (*SIZES, (architecture.nominal, architecture.nominal)):
        counter = Counter(network)
        logits = network(torch.empty(1, architecture.channels, *size, device="meta"))
        computed = cost(architecture, size)
        assert logits.shape == (1, architecture.classes)
        assert (computed.macs, computed.pool_inputs, computed.params) == (counter.macs, counter.pool_inputs, params)
        for layer in architecture.layers(size):
            if layer.op not in {"add", "concat"}:
                out = layer.output
                assert counter.outputs[layer.name][:1] == (out.channels,)
                assert counter.outputs[layer.name][1:] in {(out.height, out.width), ()}


@pytest.mark.parametrize("name", FORMS)
def test_layer_names_match_the_state_dict(name: str) -> None:
    architecture = FORMS[name]
    network = build(architecture, "meta")
    layers = architecture.layers((architecture.nominal, architecture.nominal))
    params = {layer.name: layer.params for layer in layers if layer.params}
    counted: dict[str, int] = {}
    for key, parameter in network.named_parameters():
        module = key.rpartition(".")[0]
        counted[module] = counted.get(module, 0) + parameter.numel()
    assert counted == params


def test_initialization_by_layer_type() -> None:
    torch.manual_seed(0)
    network = build(FORMS["wrn_16_4 0.6"])
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] ** 2 * module.out_channels / module.groups
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.2)
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert torch.equal(module.bias, torch.zeros_like(module.bias))
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.2)
            assert not module.bias.any()


def test_initialization_uses_the_torch_seed() -> None:
    def weights(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return list(build(FORMS["wrn_10_1"]).parameters())

    assert all(map(torch.equal, weights(1), weights(1)))
    assert not all(map(torch.equal, weights(1), weights(2)))


def test_outputs_and_gradients_are_finite() -> None:
    torch.manual_seed(0)
    network = build(FORMS["fd_mobilenet slimmable 0.37 of a quarter"])
    network(torch.randn(8, 3, 28, 20)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
