"""Updates of the complete training state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paretofit.search.training.loop import sgd
from paretofit.search.training.state import ExponentialMovingAverage, TrainState
from paretofit.search.training.step import grad_scaler


def train_state(
    network: nn.Module, dtype: torch.dtype | None = None, average: ExponentialMovingAverage | None = None
) -> TrainState:
    optimizer = sgd(network, learning_rate=0.1, momentum=0.9, weight_decay=0.01, decay="all")
    return TrainState(
        network=network,
        optimizer=optimizer,
        scaler=grad_scaler(dtype, torch.device("cpu")),
        average=average,
    )


def test_float16_overflow_changes_only_the_scale_even_at_the_first_step() -> None:
    torch.manual_seed(0)
    network, plain = nn.Linear(4, 3), nn.Linear(4, 3)
    plain.load_state_dict(network.state_dict())
    scaled, unscaled = train_state(network, torch.float16), train_state(plain)
    x = torch.randn(6, 4)

    torch.autograd.backward(scaled.scaler.scale(network(x).sum() * torch.inf))
    scaled.update(0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), plain.parameters(), strict=True))
    assert scaled.scaler.get_scale() == 2.0**15
    for step in range(3):
        for each in (scaled, unscaled):
            each.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(each.scaler.scale(each.network(x).square().mean()))
            each.update(step)
        torch.testing.assert_close(network.weight, plain.weight)


def test_finish_copies_the_average_into_the_network() -> None:
    network = nn.Linear(4, 3)
    average = ExponentialMovingAverage(network, 0.9)
    averaged = train_state(network, average=average)
    first = network.weight.detach().clone()
    torch.autograd.backward(network(torch.ones(2, 4)).sum())
    averaged.update(0)
    torch.testing.assert_close(average.tensors["weight"], 0.1 * first + 0.9 * network.weight.detach())
    averaged.finish()
    assert torch.equal(network.weight, average.tensors["weight"])
    unaveraged = train_state(network)
    unaveraged.finish()
    assert torch.equal(network.weight, average.tensors["weight"])


def clipped(norm: float, dtype: torch.dtype | None) -> tuple[nn.Linear, torch.Tensor, float]:
    """One plain SGD step at rate 1 with a large gradient: the network, its change, and the total gradient norm."""
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
    optimizer = sgd(network, learning_rate=1.0, momentum=0.0, weight_decay=0.0, decay="all")
    scaler = grad_scaler(dtype, torch.device("cpu"))
    trained = TrainState(network=network, optimizer=optimizer, scaler=scaler, clip_norm=norm)
    torch.autograd.backward(scaler.scale(10 * network(torch.ones(2, 4)).sum()))
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]) / scaler.get_scale()
    trained.update(0)
    after = torch.cat([p.detach().flatten() for p in network.parameters()])
    return network, before - after, gradient.norm().item()


@pytest.mark.parametrize("dtype", [None, torch.float16], ids=["float32", "float16"])
def test_total_gradient_norm_is_clipped(dtype: torch.dtype | None) -> None:
    """The norm is that of the unscaled gradient, without the float16 loss scale."""
    _, change, norm = clipped(2.0, dtype)
    assert norm > 2
    assert change.norm().item() == pytest.approx(2.0, rel=1e-4)
    _, free, _ = clipped(0.0, dtype)
    torch.testing.assert_close(change / change.norm(), free / free.norm())
    assert free.norm().item() == pytest.approx(norm, rel=1e-5)
    _, same, _ = clipped(10 * norm, dtype)
    torch.testing.assert_close(same, free)


def test_float16_overflow_changes_nothing_with_clipping() -> None:
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = sgd(network, learning_rate=0.1, momentum=0.9, weight_decay=0.01, decay="all")
    scaler = grad_scaler(torch.float16, torch.device("cpu"))
    trained = TrainState(network=network, optimizer=optimizer, scaler=scaler, clip_norm=5.0)
    torch.autograd.backward(scaler.scale(network(torch.randn(6, 4)).sum() * torch.inf))
    trained.update(0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))
    assert scaler.get_scale() == 2.0**15
