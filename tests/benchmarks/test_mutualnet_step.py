"""What is timed against each other trains the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.mutualnet_step import Case, ours, plain

CASE = Case(8, (16, 14, 12, 10), 5, base_width=0.0625, learning_rate=0.002)
"""At a low rate, because training amplifies differences in the last digits, such as of the order of a sum."""
STEPS = 20


@pytest.fixture(autouse=True)
def _float64_on_one_thread() -> Iterator[None]:
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


def test_the_losses_are_those_of_the_published_step() -> None:
    torch.manual_seed(0)
    (network, train), (published, train_published) = ours(CASE), plain(CASE)
    with torch.no_grad():
        for parameter, same in zip(published.parameters(), network.parameters(), strict=True):
            parameter.copy_(same)
    losses = []
    for index in range(STEPS):
        batch = CASE.batch()
        found = [loss.item() for loss in train(index, batch)]
        assert found == pytest.approx([loss.item() for loss in train_published(index, batch)], rel=1e-6)
        losses.append(found)
    assert len({round(loss, 3) for loss, _ in losses}) > STEPS // 2
    for parameter, same in zip(published.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(parameter, same.contiguous(), rtol=1e-5, atol=1e-8)
