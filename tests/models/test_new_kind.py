"""A new block kind is a dataclass and a torch module; cost, JSON, building, slimming and extraction then support it.

The test block concatenates branches of different kernels, one of them at half the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from paretofit.models.architecture import Architecture, Block, register
from paretofit.models.blocks import conv as conv_module
from paretofit.models.build import build
from paretofit.models.cost import cost
from paretofit.models.kinds.basic import Classifier, Conv
from paretofit.models.layers.slimmable import Slimmable
from paretofit.models.trace import Layer, Shape, Size, batch_norm, conv


@register
@dataclass(frozen=True, slots=True)
class Branches(Block):
    """Parallel convolutions of several kernels, then a pointwise one; the optional `inner` block runs on the result."""

    kind: ClassVar[str] = "test_branches"
    module: ClassVar[str] = "tests.models.test_new_kind:BranchesModule"

    in_channels: int
    out_channels: int
    kernels: tuple[int, ...]
    widths: tuple[int, ...]
    inner: Block | None = None
    gain: float = 1.0

    def layers(self, size: Size) -> tuple[Layer, ...]:
        x = Shape(self.in_channels, *size)
        result: list[Layer] = []
        held = x.elements
        for i, (kernel, width) in enumerate(zip(self.kernels, self.widths, strict=True)):
            # The layer counts the input of the convolution itself; `held` counts the outputs of other branches.
            branch = conv(f"branches.{i}", x, width, kernel=kernel, held=held - x.elements)
            result.append(branch)
            held += branch.output.elements
        together = Shape(sum(self.widths), *size)
        result.append(Layer("concat", "concat", together, together))
        result.append(conv("mix", together, self.out_channels, in_parts=self.widths))
        result.append(batch_norm("norm", result[-1].output))
        return tuple(result) + (self.inner.layers(size) if self.inner else ())


class BranchesModule(nn.Module):
    def __init__(self, block: Branches) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            conv_module(block.in_channels, width, kernel=kernel)
            for kernel, width in zip(block.kernels, block.widths, strict=True)
        )
        self.mix = conv_module(sum(block.widths), block.out_channels)
        self.norm = nn.BatchNorm2d(block.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.mix(torch.cat([branch(x) for branch in self.branches], dim=1)))
        return out


def _network(stem: int, widths: tuple[int, ...], out: int) -> Architecture:
    return Architecture(
        "branches",
        nominal=8,
        channels=3,
        classes=4,
        blocks=(
            Conv(3, stem, 3, 1, 1, norm=True, activation="relu"),
            Branches(stem, out, (1, 3, 5), widths, gain=0.5),
            Classifier(out, 4),
        ),
    )


FULL = _network(8, (4, 6, 5), 12)
NARROW = _network(5, (2, 6, 1), 7)


def test_json_round_trip_and_cost() -> None:
    assert Architecture.from_json(NARROW.to_json()) == NARROW
    counted = sum(parameter.numel() for parameter in build(NARROW, "meta").parameters())
    assert cost(NARROW, (8, 8)).params == counted
    branch_macs = 64 * 5 * (2 * 1 + 6 * 9 + 1 * 25)
    assert cost(NARROW, (8, 8)).macs == 64 * 3 * 5 * 9 + branch_macs + 64 * 9 * 7 + 7 * 4


def test_nested_blocks_round_trip_through_json() -> None:
    outer = Branches(8, 12, (1,), (4,), inner=Conv(12, 12, 3, 1, 1, norm=True, activation="relu6"))
    network = Architecture("nested", 8, 8, 4, (outer, Classifier(12, 4)))
    assert Architecture.from_json(network.to_json()) == network
    data = network.to_json()
    data["blocks"][0]["inner"]["stride"] = "1"
    with pytest.raises(ValueError, match=r"blocks\[0\].inner.stride must be int, not '1'"):
        Architecture.from_json(data)


def test_parts_of_a_concatenation_are_sliced_separately() -> None:
    torch.manual_seed(0)
    slim = Slimmable(FULL)
    images = torch.randn(4, 3, 8, 8)
    narrow = build(NARROW)
    weights = dict(slim.network.named_parameters())
    with torch.no_grad():
        for name, parameter in narrow.named_parameters():
            full_weight = weights[name]
            if name == "blocks.1.mix.weight":
                columns = torch.tensor([0, 1, 4, 5, 6, 7, 8, 9, 10])
                parameter.copy_(full_weight[:7, columns])
            else:
                parameter.copy_(full_weight[tuple(map(slice, parameter.shape))])
        assert torch.equal(slim(images, NARROW), narrow(images))
        slim.calibrate(NARROW, [images])
        assert torch.equal(slim.eval()(images, NARROW), slim.extract(NARROW, (8, 8))(images))
