"""Exponential moving average of the weights."""

from __future__ import annotations

import torch
from torch import nn

from paretofit.search.training.state import ExponentialMovingAverage


def test_average_decay_increases_with_the_steps() -> None:
    network = nn.Linear(3, 2)
    average = ExponentialMovingAverage(network, 0.5)
    expected = network.weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            network.weight.add_(1)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = torch.lerp(network.weight.detach(), expected, decay)
    torch.testing.assert_close(average.tensors["weight"], expected)
    assert not torch.equal(network.weight, expected)
    average.to_network()
    torch.testing.assert_close(network.weight.detach(), expected)
    assert network.weight.requires_grad


def test_average_does_not_share_memory_with_the_network() -> None:
    network = nn.Linear(3, 2)
    average = ExponentialMovingAverage(network, 0.9)
    before = average.tensors["bias"].clone()
    with torch.no_grad():
        network.bias.add_(1)
    assert torch.equal(average.tensors["bias"], before)
