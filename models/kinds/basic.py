"""The blocks of every family: a convolution unit, a separate batch norm, and the classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from paretofit.models.architecture import Block, register
from paretofit.models.trace import Layer, Shape, Size, activation, batch_norm, conv, global_pool, linear

Activation = Literal["relu", "relu6", "none"]


def conv_unit(
    prefix: str, x: Shape, out_channels: int, act: Activation, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> tuple[Layer, ...]:
    """The layers of convolution, batch norm and activation: `prefix` + conv, norm, act."""
    first = conv(f"{prefix}conv", x, out_channels, kernel=kernel, stride=stride, groups=groups)
    norm = batch_norm(f"{prefix}norm", first.output)
    return (first, norm, *activations(f"{prefix}act", norm.output, act))


def activations(name: str, x: Shape, act: Activation) -> tuple[Layer, ...]:
    """The layer of an activation; none for `none`."""
    return () if act == "none" else (activation(name, x, act),)


@register
@dataclass(frozen=True, slots=True)
class Conv(Block):
    """A convolution, then batch norm if `norm`, then an activation."""

    kind: ClassVar[str] = "conv"
    module: ClassVar[str] = "paretofit.models.blocks:ConvUnit"
    permutable: ClassVar[bool] = True

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    groups: int
    norm: bool
    activation: Activation

    def layers(self, size: Size) -> tuple[Layer, ...]:
        x = Shape(self.in_channels, *size)
        first = conv("conv", x, self.out_channels, kernel=self.kernel, stride=self.stride, groups=self.groups)
        norm = (batch_norm("norm", first.output),) if self.norm else ()
        return (first, *norm, *activations("act", first.output, self.activation))


@register
@dataclass(frozen=True, slots=True)
class Norm(Block):
    """Batch norm and an activation, as at the end of a pre-activation network."""

    kind: ClassVar[str] = "norm"
    module: ClassVar[str] = "paretofit.models.blocks:Norm"
    permutable: ClassVar[bool] = True

    in_channels: int
    out_channels: int
    activation: Activation

    def layers(self, size: Size) -> tuple[Layer, ...]:
        if self.in_channels != self.out_channels:
            raise ValueError(f"out_channels must be {self.in_channels}, because batch norm keeps the channels")
        norm = batch_norm("norm", Shape(self.in_channels, *size))
        return (norm, *activations("act", norm.output, self.activation))


@register
@dataclass(frozen=True, slots=True)
class Classifier(Block):
    """Global average pool and a linear layer with bias: `out_channels` are the classes."""

    kind: ClassVar[str] = "classifier"
    module: ClassVar[str] = "paretofit.models.blocks:Classifier"
    permutable: ClassVar[bool] = True

    in_channels: int
    out_channels: int

    def layers(self, size: Size) -> tuple[Layer, ...]:
        pool = global_pool("pool", Shape(self.in_channels, *size))
        return pool, linear("linear", pool.output, self.out_channels)
