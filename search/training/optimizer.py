"""SGD as image classifiers are trained."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.optim import SGD

Decay = Literal["dense", "all"]


def sgd(network: nn.Module, *, learning_rate: float, momentum: float, weight_decay: float, decay: Decay) -> SGD:
    """Nesterov SGD in two parameter groups, with and without weight decay.

    `dense` decays the weights of linear layers and of convolutions that are not depthwise; `all` decays everything.
    """
    dense = {id(module.weight) for module in network.modules() if _is_dense(module)}
    parameters = list(network.parameters())
    decayed = [p for p in parameters if decay == "all" or id(p) in dense]
    free = [p for p in parameters if decay != "all" and id(p) not in dense]
    groups = [
        {"params": group, "weight_decay": penalty} for group, penalty in ((decayed, weight_decay), (free, 0.0)) if group
    ]
    optimizer = SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    if momentum > 0:
        # The fused kernel leaves the buffers it makes unset if the first gradients in float16 overflow.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: SGD, learning_rate: float) -> None:
    """The same for every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def _is_dense(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        depthwise = module.weight.shape[1] == 1 and module.groups == module.in_channels > 1
        return not depthwise
    return isinstance(module, nn.Linear)
