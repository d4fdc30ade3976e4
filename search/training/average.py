"""An exponential moving average of a network's parameters, which is evaluated in their place."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Of `network`'s parameters over the steps, on their device.

    Source: Polyak & Juditsky 1992, in the form of Tan & Le, EfficientNet (arXiv 1905.11946): the decay grows with the
    steps, min(`decay`, (1 + step) / (10 + step)), so that the first weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._network = network
        self.tensors: dict[str, Tensor] = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step `step`, which counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = [parameter.detach() for parameter in self._network.parameters()]
        torch._foreach_lerp_(list(self.tensors.values()), parameters, 1 - decay)

    @torch.no_grad()
    def to_network(self) -> None:
        """Make the average the network's parameters."""
        for name, parameter in self._network.named_parameters():
            parameter.copy_(self.tensors[name])
