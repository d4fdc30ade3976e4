"""Which parameters decay."""

from __future__ import annotations

from models.build import build
from models.families.registry import architecture
from search.training.optimizer import Decay, sgd


def decayed(decay: Decay) -> set[str]:
    network = build(architecture("fd_mobilenet", base_width=0.125, nominal=32, classes=10, channels=1))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    optimizer = sgd(network, learning_rate=0.1, momentum=0.9, weight_decay=1e-4, decay=decay)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    assert all(group["nesterov"] for group in optimizer.param_groups)
    return {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}


def test_dense_leaves_out_depthwise_norms_and_biases() -> None:
    pointwise = {f"blocks.{i}.pointwise.conv.weight" for i in range(1, 12)}
    assert decayed("dense") == {"blocks.0.conv.weight", "blocks.12.linear.weight", *pointwise}


def test_all_is_everything() -> None:
    assert "blocks.1.depthwise.conv.weight" in decayed("all")
    assert "blocks.12.linear.bias" in decayed("all")
