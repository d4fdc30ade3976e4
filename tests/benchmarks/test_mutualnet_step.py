"""Paretofit's training step and the published step train the same network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.mutualnet_step import Case, ours, plain

pytestmark = pytest.mark.integration

SMALL = Case(8, (16, 14, 12, 10), 5, base_width=0.0625, learning_rate=0.002)
"""At a low rate, because training amplifies differences in the last digits, such as of the order of a sum."""
LARGE = Case(8, (64, 56, 44, 36), 5, base_width=0.25, learning_rate=0.002)
"""Large enough that first maps are processed in parts, and last convolutions are matrix products."""
OWN_KERNELS = {"_Pointwise", "_NormAct"}


@pytest.fixture(autouse=True)
def _float64_on_one_thread() -> Iterator[None]:
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


@pytest.mark.parametrize(("case", "steps"), [(SMALL, 20), (LARGE, 3)])
def test_losses_equal_the_published_step(case: Case, steps: int) -> None:
    torch.manual_seed(0)
    (network, train), (published, train_published) = ours(case), plain(case)
    with torch.no_grad():
        for parameter, same in zip(published.parameters(), network.parameters(), strict=True):
            parameter.copy_(same)
    losses = []
    for index in range(steps):
        batch = case.batch()
        step_losses = [loss.item() for loss in train(index, batch)]
        assert step_losses == pytest.approx([loss.item() for loss in train_published(index, batch)], rel=1e-6)
        losses.append(step_losses)
    assert len({round(loss, 3) for loss, _ in losses}) > steps // 2
    for parameter, same in zip(published.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(parameter, same.contiguous(), rtol=1e-5, atol=1e-8)


def test_larger_case_uses_all_kernels_of_the_step() -> None:
    torch.set_default_dtype(torch.float32)  # A depthwise convolution in float64 expands to some thousand operations.
    _, train = ours(LARGE)
    train(0, LARGE.batch())  # The first step also builds caches.
    with torch.autograd.profiler.profile() as profiled:
        train(0, LARGE.batch())
    ran = {event.name for event in profiled.function_events or ()}
    assert ran >= OWN_KERNELS | {f"{name}Backward" for name in OWN_KERNELS}
    # Normalization of maps in chunks, and matrix products for small maps.
    assert ran >= {"aten::addcmul", "aten::batch_norm_update_stats", "aten::native_batch_norm", "aten::mm"}
