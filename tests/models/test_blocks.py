"""Block computations that layer names and sizes do not determine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from paretofit.models import blocks
from paretofit.models.kinds.inverted import InvertedResidual
from paretofit.models.kinds.pooling import MaxPool
from paretofit.models.kinds.residual import ResidualBasic, ResidualBottleneck
from paretofit.models.kinds.shuffle import ShuffleUnit


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 12, 9, 7, generator=torch.Generator().manual_seed(0))


def silenced(module: nn.Module, last: str) -> nn.Module:
    """Put the module into evaluation mode and make the named convolution output zeros."""
    convolution = module.get_submodule(f"{last}.conv")
    assert isinstance(convolution, nn.Conv2d)
    nn.init.zeros_(convolution.weight)
    return module.eval()


@pytest.mark.parametrize(
    ("module", "last"),
    [
        (blocks.ResidualBasic(ResidualBasic(12, 8, 12, 1, projection=False)), "second"),
        (blocks.ResidualBottleneck(ResidualBottleneck(12, 6, 12, 1, 2, projection=False)), "expand"),
        (blocks.ShuffleUnit(ShuffleUnit(12, 6, 12, 1, 3, 3)), "expand"),
    ],
)
def test_identity_shortcut_is_activated_after_the_sum(module: nn.Module, last: str, x: Tensor) -> None:
    before = x.clone()
    assert torch.equal(silenced(module, last)(x), x.relu())
    assert torch.equal(x, before)


def test_projection_reads_the_input_of_the_block(x: Tensor) -> None:
    module = silenced(blocks.ResidualBasic(ResidualBasic(12, 8, 16, 2, projection=True)), "second")
    torch.testing.assert_close(module(x), module.get_submodule("shortcut")(x).relu())


def test_inverted_residual_has_no_final_activation(x: Tensor) -> None:
    added = blocks.InvertedResidual(InvertedResidual(12, 72, 12, 3, 1, "relu6", residual=True))
    assert torch.equal(silenced(added, "project")(x), x)
    plain = blocks.InvertedResidual(InvertedResidual(12, 72, 8, 3, 2, "relu6", residual=False)).eval()
    assert plain(x).min() < 0


def test_growing_unit_concatenates_averaged_input_first(x: Tensor) -> None:
    module = silenced(blocks.ShuffleUnit(ShuffleUnit(12, 6, 24, 2, 3, 1)), "expand")
    pooled = nn.functional.avg_pool2d(x, 3, 2, padding=1).relu()
    assert torch.equal(module(x), torch.cat([pooled, torch.zeros_like(pooled)], dim=1))


def test_channel_shuffle_interleaves_groups() -> None:
    """ShuffleNet (arXiv 1707.01083), section 3.1: each group of the next layer reads of every group."""
    x = torch.arange(6.0).view(1, 6, 1, 1).expand(2, 6, 3, 4)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        shuffled = blocks.ChannelShuffle(3)(x.contiguous(memory_format=memory_format))
        assert shuffled[1, :, 2, 3].tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize(("kernel", "expected"), [(2, [1.0, 3.0, 4.0]), (3, [1.0, 3.0, 4.0])])
def test_max_pools_round_the_size_up(kernel: int, expected: list[float]) -> None:
    row = torch.arange(5.0).view(1, 1, 1, 5)
    assert blocks.MaxPool(MaxPool(1, 1, kernel, 2))(row).flatten().tolist() == expected
