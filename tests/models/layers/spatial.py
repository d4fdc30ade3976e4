"""Small networks with sampled blocks for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from paretofit.models.build import Network, build
from paretofit.models.families.registry import architecture
from paretofit.models.kinds.sampling import (
    Policy,
    sampled,
)
from paretofit.models.layers.spatial_sampling import samplings

BACKBONES = {
    "resnet50": architecture("resnet50", base_width=0.125, nominal=32, classes=5),
    "resnet18": architecture("resnet18", base_width=0.125, nominal=32, classes=5),
    "wrn_10_1": architecture("wrn_10_1", nominal=32, classes=5),
}


def network(name: str, **policy: Any) -> Network:
    """A network with statistics as after training, and masks that depend on the image."""
    torch.manual_seed(0)
    sampled_network = build(sampled(BACKBONES[name], Policy(**policy))).eval()
    return with_trained_statistics(sampled_network)


def with_trained_statistics(network: Network) -> Network:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for each in samplings(network):
        nn.init.normal_(each.predict.weight, 0, 0.05)
        assert each.predict.bias is not None
        nn.init.constant_(each.predict.bias, -0.3)
    return network


def images(count: int = 3, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def masks(network: Network, x: Tensor) -> list[Tensor]:
    result: list[Tensor] = []
    hooks = [
        each.register_forward_hook(lambda module, inputs, mask: result.append(mask)) for each in samplings(network)
    ]
    with torch.inference_mode():
        network(x)
    for hook in hooks:
        hook.remove()
    return result
