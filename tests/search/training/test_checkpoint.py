"""State restored from training checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from paretofit.search.training import state
from paretofit.search.training.loop import sgd
from paretofit.search.training.state import ExponentialMovingAverage, TrainState
from paretofit.search.training.step import grad_scaler


def training(seed: int) -> TrainState:
    torch.manual_seed(seed)
    network = nn.Linear(4, 3)
    optimizer = sgd(network, learning_rate=0.1, momentum=0.9, weight_decay=0.01, decay="all")
    scaler = grad_scaler(torch.float16, torch.device("cpu"))
    return TrainState(
        network=network, optimizer=optimizer, scaler=scaler, average=ExponentialMovingAverage(network, 0.9)
    )


def step(weights: TrainState, index: int) -> None:
    weights.optimizer.zero_grad(set_to_none=True)
    overflow = torch.inf if index == 1 else 1.0
    loss = weights.network(torch.randn(6, 4)).square().mean() * overflow
    torch.autograd.backward(weights.scaler.scale(loss))
    weights.update(index)


def test_checkpoint_restores_weights_momentum_average_scale_and_rng(tmp_path: Path) -> None:
    uninterrupted = training(0)
    for index in range(3):
        step(uninterrupted, index)
    notes = {"seen": [1, 2]}
    state.save(tmp_path / "c", uninterrupted, step=3, identity="a", notes=notes)
    step(uninterrupted, 3)

    resumed = training(1)
    assert state.restore(tmp_path / "c", resumed, identity="a") == (3, notes)
    assert resumed.scaler.get_scale() == 2.0**15
    step(resumed, 3)
    assert uninterrupted.average is not None
    assert resumed.average is not None
    for name, parameter in uninterrupted.network.named_parameters():
        assert torch.equal(parameter, resumed.network.get_parameter(name))
        assert torch.equal(uninterrupted.average.tensors[name], resumed.average.tensors[name])
        assert not torch.equal(parameter, uninterrupted.average.tensors[name])


def test_checkpoint_of_another_training_is_rejected(tmp_path: Path) -> None:
    state.save(tmp_path / "c", training(0), step=1, identity="a", notes={})
    with pytest.raises(state.CheckpointError, match="another training"):
        state.restore(tmp_path / "c", training(0), identity="b")
