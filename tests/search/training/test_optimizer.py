"""Weight decay and learning rates by parameter."""

from __future__ import annotations

import pytest
import torch

from paretofit.models.build import build
from paretofit.models.families.registry import architecture
from paretofit.search.training.loop import Decay, set_learning_rate, sgd


def decayed(decay: Decay) -> set[str]:
    network = build(architecture("fd_mobilenet", base_width=0.125, nominal=32, classes=10, channels=1))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    optimizer = sgd(network, learning_rate=0.1, momentum=0.9, weight_decay=1e-4, decay=decay)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    assert all(group["nesterov"] for group in optimizer.param_groups)
    return {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}


def test_dense_decay_excludes_depthwise_norms_and_biases() -> None:
    pointwise = {f"blocks.{i}.pointwise.conv.weight" for i in range(1, 12)}
    assert decayed("dense") == {"blocks.0.conv.weight", "blocks.12.linear.weight", *pointwise}


def test_all_decay_includes_every_parameter() -> None:
    assert "blocks.1.depthwise.conv.weight" in decayed("all")
    assert "blocks.12.linear.bias" in decayed("all")


HEAD = {"blocks.12.linear.weight", "blocks.12.linear.bias"}


@pytest.mark.parametrize("share", [1.0, 0.1, 0.0])
def test_backbone_rate_scales_all_layers_except_the_classifier(share: float) -> None:
    network = build(architecture("fd_mobilenet", base_width=0.125, nominal=32, classes=10, channels=1))
    optimizer = sgd(network, learning_rate=0.5, momentum=0.9, weight_decay=1e-4, decay="dense", backbone_rate=share)
    names = {id(parameter): name for name, parameter in network.named_parameters()}

    def rates() -> dict[str, float]:
        return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}

    for rate in (0.5, 0.02):
        set_learning_rate(optimizer, rate)
        rate_by_name = rates()
        assert rate_by_name.keys() == set(names.values())
        assert {rate_by_name[name] for name in HEAD} == {rate}
        assert {value for name, value in rate_by_name.items() if name not in HEAD} == {rate * share}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert "blocks.12.linear.weight" in decayed
    assert "blocks.12.linear.bias" not in decayed
    assert "blocks.1.depthwise.conv.weight" not in decayed
    assert len(optimizer.param_groups) == (2 if share == 1 else 4)


def test_backbone_rate_step_equals_two_optimizers() -> None:
    torch.manual_seed(0)
    network = build(architecture("wrn_10_1", base_width=0.25, nominal=8, classes=3, channels=1))
    backbone = [p for name, p in network.named_parameters() if "linear" not in name]
    head = [p for name, p in network.named_parameters() if "linear" in name]
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    start = {name: value.clone() for name, value in network.state_dict().items()}

    def steps(optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
        network.load_state_dict(start)
        for _ in range(3):
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.nn.functional.cross_entropy(network(x), y))
            for optimizer in optimizers:
                optimizer.step()
        return {name: value.clone() for name, value in network.named_parameters()}

    grouped = sgd(network, learning_rate=0.2, momentum=0.9, weight_decay=1e-3, decay="all", backbone_rate=0.1)
    result = steps([grouped])
    expected = steps(
        [
            torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True, weight_decay=1e-3)
            for parameters, rate in ((backbone, 0.02), (head, 0.2))
        ]
    )
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value)


def test_frozen_parameters_are_not_optimized() -> None:
    network = build(architecture("wrn_10_1", base_width=0.25, nominal=8, classes=3, channels=1))
    for name, parameter in network.named_parameters():
        parameter.requires_grad = "conv" not in name
    optimizer = sgd(network, learning_rate=0.2, momentum=0.9, weight_decay=1e-3, decay="all", backbone_rate=0.1)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for name, p in network.named_parameters() if "conv" not in name}
