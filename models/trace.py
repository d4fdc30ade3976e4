"""Layers of a network as integers: the single description from which costs, slices and reports are computed.

Torch-free. A layer is named like its torch module, so that `name + ".weight"` is a key of the state dict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Size = tuple[int, int]
"""Height and width in pixels."""

INPUT: Final = ""
"""The input of a block, among the `reads` of its layers."""


class TooSmallError(ValueError):
    """A layer would have no output pixel at this input size."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One image's tensor."""

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"a layer needs at least 1 channel, not {self.channels}")
        if self.height < 1 or self.width < 1:
            raise TooSmallError(f"the output of {self.height}x{self.width} has no pixel: use a larger input")

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.height, self.width

    @property
    def elements(self) -> int:
        """Number of elements."""
        return self.channels * self.height * self.width


@dataclass(frozen=True, slots=True)
class Layer:
    """One primitive operation on one image.

    `held` counts the elements of tensors that must be kept while this layer runs, besides its output and (unless it is
    `in_place`) its input: a shortcut, or an input that a later layer reads again. `in_parts` lists the channels of each
    part of a concatenated input of a convolution, because narrowing cuts each part separately. `reads` names the layers
    of the same block (or `INPUT`) whose outputs it takes; empty: the preceding layer, or the block's input for the
    first. Required only in blocks that are `permutable`.
    """

    name: str
    op: str
    input: Shape
    output: Shape
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    macs: int = 0
    params: int = 0
    held: int = 0
    in_place: bool = False
    in_parts: tuple[int, ...] = ()
    reads: tuple[str, ...] = ()

    @property
    def live_elements(self) -> int:
        """Elements of all tensors alive while this layer runs in inference."""
        return self.output.elements + self.held + (0 if self.in_place else self.input.elements)


def conv(
    name: str,
    x: Shape,
    out_channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    held: int = 0,
    in_parts: tuple[int, ...] = (),
    reads: tuple[str, ...] = (),
) -> Layer:
    """A convolution without bias, square odd kernel, padded by kernel // 2. Raises ValueError for numbers that fit
    none."""
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be an odd number of pixels, not {kernel}")
    if stride < 1:
        raise ValueError(f"stride must be 1 or more, not {stride}")
    if groups < 1 or x.channels % groups or out_channels % groups:
        raise ValueError(f"groups must divide the channels {x.channels} -> {out_channels}, and {groups} does not")
    if in_parts and sum(in_parts) != x.channels:
        raise ValueError(f"the parts {in_parts} do not add up to {x.channels} channels")
    out = Shape(out_channels, (x.height - 1) // stride + 1, (x.width - 1) // stride + 1)
    params = out_channels * (x.channels // groups) * kernel**2
    return Layer(
        name,
        "conv",
        x,
        out,
        kernel=kernel,
        stride=stride,
        groups=groups,
        macs=params * out.height * out.width,
        params=params,
        held=held,
        in_parts=in_parts,
        reads=reads,
    )


def batch_norm(name: str, x: Shape, *, held: int = 0) -> Layer:
    """Batch norm with affine parameters."""
    return Layer(name, "batch_norm", x, x, params=2 * x.channels, held=held, in_place=True)


def activation(name: str, x: Shape, kind: str, *, held: int = 0) -> Layer:
    """An elementwise activation; `kind` is its name, such as `relu6`."""
    return Layer(name, kind, x, x, held=held, in_place=True)


def add(name: str, x: Shape, other: Shape, *, reads: tuple[str, ...] = ()) -> Layer:
    """The sum of two tensors of one shape."""
    if x != other:
        raise ValueError(f"cannot add {other} to {x}")
    return Layer(name, "add", x, x, held=other.elements, in_place=True, reads=reads)


def concat(name: str, x: Shape, other: Shape) -> Layer:
    """Concatenates the channels of `x` and `other`. Raises ValueError if their sizes differ."""
    if x.size != other.size:
        raise ValueError(f"cannot concatenate {other} to {x}")
    return Layer(name, "concat", x, Shape(x.channels + other.channels, *x.size), held=other.elements)


def joined(name: str, x: Shape, *, held: int = 0) -> Layer:
    """The concatenation of several tensors, whose channels add up to those of `x`."""
    return Layer(name, "concat", x, x, held=held)


def shuffle(name: str, x: Shape, groups: int, *, held: int = 0) -> Layer:
    """Shuffles channels: one of each group in turn. Raises ValueError if `groups` does not divide the channels."""
    if groups < 1 or x.channels % groups:
        raise ValueError(f"groups must divide the channels {x.channels}, and {groups} does not")
    return Layer(name, "shuffle", x, x, groups=groups, held=held)


def pool(name: str, x: Shape, op: str, *, kernel: int, stride: int, held: int = 0) -> Layer:
    """A pool of `op` (max_pool, avg_pool) with ceil(side / stride) output pixels.

    An odd kernel is padded by kernel // 2; an even one equals the stride, and its last window may extend beyond the
    map. Raises ValueError otherwise.
    """
    if stride < 1 or kernel < 1:
        raise ValueError(f"kernel and stride must be 1 or more, not {kernel} and {stride}")
    if kernel % 2 == 0 and kernel != stride:
        raise ValueError(f"the kernel of a pool must be odd or equal to the stride {stride}, not {kernel}")
    out = Shape(x.channels, (x.height - 1) // stride + 1, (x.width - 1) // stride + 1)
    return Layer(name, op, x, out, kernel=kernel, stride=stride, held=held)


def pooled_size(size: Size, side: int) -> Size:
    """Output size of adjacent square windows of `side` pixels; a smaller map has windows as large as its shorter
    side."""
    side = min(side, *size)
    return size[0] // side, size[1] // side


def floor_pool(name: str, x: Shape, side: int, *, held: int = 0) -> Layer:
    """A max-pool to `pooled_size`; pixels at the lower and right edge that its windows do not cover are dropped."""
    if side < 1:
        raise ValueError(f"the windows of a pool must be 1 pixel or more, not {side}")
    found = min(side, *x.size)
    return Layer(
        name, "max_pool", x, Shape(x.channels, *pooled_size(x.size, side)), kernel=found, stride=found, held=held
    )


def divides(small: Size, size: Size) -> bool:
    """Whether both sides of a map are multiples of a smaller one's, so that each of its pixels becomes a rectangle."""
    return size[0] % small[0] == 0 and size[1] % small[1] == 0


def upsample(name: str, x: Shape, size: Size, *, held: int = 0) -> Layer:
    """Nearest-neighbor upsampling where the sizes divide, else bilinear."""
    op = "nearest" if divides(x.size, size) else "bilinear"
    return Layer(name, op, x, Shape(x.channels, *size), held=held)


def resized(name: str, x: Shape, size: Size, *, held: int = 0) -> Layer:
    """Bilinear resizing to any size."""
    return Layer(name, "bilinear", x, Shape(x.channels, *size), held=held)


def global_pool(name: str, x: Shape) -> Layer:
    """The mean over all pixels."""
    return Layer(name, "global_pool", x, Shape(x.channels, 1, 1))


def linear(name: str, x: Shape, out_features: int) -> Layer:
    """A fully connected layer with bias on a tensor of one pixel."""
    out = Shape(out_features, 1, 1)
    return Layer(name, "linear", x, out, macs=x.elements * out_features, params=(x.elements + 1) * out_features)
