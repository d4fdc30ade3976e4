"""Gradient accumulation, compared with whole batches."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.search.data.loader import Batch
from paretofit.search.training.step import Scale, accumulate_gradients, grad_scaler

CPU = torch.device("cpu")


def passes(network: nn.Module, step: int, batch: Batch, scale: Scale) -> dict[str, Tensor]:
    loss = F.cross_entropy(network(batch.images), batch.labels)
    torch.autograd.backward(scale(loss))
    return {"loss": loss.detach() + step}


@pytest.mark.parametrize("parts", [1, 3, 4])
def test_accumulated_gradients_and_losses_equal_the_whole_batch(parts: int) -> None:
    torch.manual_seed(0)
    network = nn.Linear(5, 3, dtype=torch.float64)
    batch = Batch(torch.randn(10, 5, dtype=torch.float64), torch.arange(10) % 3)
    loss = F.cross_entropy(network(batch.images), batch.labels)
    (expected,) = torch.autograd.grad(loss, [network.weight])
    scaler = grad_scaler(None, CPU)
    losses = accumulate_gradients(partial(passes, network), parts=parts, batch_size=10, scaler=scaler)(7, batch)
    torch.testing.assert_close(losses["loss"], loss.detach() + 7)
    torch.testing.assert_close(network.weight.grad, expected)


def test_gradients_are_scaled_for_float16_and_losses_are_not() -> None:
    torch.manual_seed(0)
    network = nn.Linear(5, 3)
    batch = Batch(torch.randn(8, 5), torch.arange(8) % 3)
    loss = F.cross_entropy(network(batch.images), batch.labels)
    (expected,) = torch.autograd.grad(loss, [network.weight])
    scaler = grad_scaler(torch.float16, CPU)
    losses = accumulate_gradients(partial(passes, network), parts=2, batch_size=8, scaler=scaler)(0, batch)
    torch.testing.assert_close(losses["loss"], loss.detach())
    torch.testing.assert_close(network.weight.grad, expected * scaler.get_scale())
