"""SGD as image classifiers are trained."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import nn
from torch.optim import SGD

Decay = Literal["dense", "all"]
_SHARE: Final = "share"
"""Key of a parameter group: its learning rate, of the one that is set."""


def sgd(
    network: nn.Module,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    decay: Decay,
    backbone_rate: float = 1.0,
) -> SGD:
    """Nesterov SGD in up to four parameter groups: with and without weight decay, of linear layers and of all others,
    whose learning rate is `backbone_rate` times the one that is set. Frozen parameters are left out.

    `dense` decays the weights of linear layers and of convolutions that are not depthwise; `all` decays everything.
    """
    dense = {id(module.weight) for module in network.modules() if _is_dense(module)}
    head = {id(p) for module in network.modules() if isinstance(module, nn.Linear) for p in module.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in network.parameters():
        if p.requires_grad:
            penalty = weight_decay if decay == "all" or id(p) in dense else 0.0
            share = 1.0 if id(p) in head else backbone_rate
            groups.setdefault((penalty, share), []).append(p)
    described = [
        {"params": group, "weight_decay": penalty, _SHARE: share} for (penalty, share), group in groups.items()
    ]
    optimizer = SGD(described, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    set_learning_rate(optimizer, learning_rate)
    if momentum > 0:
        # The fused kernel leaves the buffers it makes unset if the first gradients in float16 overflow.
        for group in groups.values():
            for parameter in group:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: SGD, learning_rate: float) -> None:
    """Each group gets its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group[_SHARE]


def _is_dense(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        depthwise = module.weight.shape[1] == 1 and module.groups == module.in_channels > 1
        return not depthwise
    return isinstance(module, nn.Linear)
