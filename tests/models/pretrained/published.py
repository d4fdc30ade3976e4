"""Reference forward passes of published networks, written from papers and state dicts, independent of `models`.

Each is one function over `Weights`, which creates a tensor under its published name at first use. The first pass
therefore builds the state dict, and names, shapes and computation cannot diverge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor


class Weights:
    """Random weights with statistics of trained ones, by published name; `tf` uses TensorFlow's names and layout."""

    def __init__(self, device: str = "cpu") -> None:
        self.tensors: dict[str, Tensor] = {}
        self.device = device
        self.random = torch.Generator().manual_seed(len(self.tensors))

    def get(self, name: str, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        if name not in self.tensors:
            if self.device == "meta":
                self.tensors[name] = torch.empty(shape, device="meta")
            else:
                self.tensors[name] = low + (high - low) * torch.rand(shape, generator=self.random)
        return self.tensors[name]

    def conv(
        self, x: Tensor, name: str, out: int, kernel: int, stride: int = 1, groups: int = 1, *, bias: bool = False
    ) -> Tensor:
        into = x.shape[1] // groups
        bound = (6 / (into * kernel**2)) ** 0.5
        weight = self.get(f"{name}.weight", out, into, kernel, kernel, low=-bound, high=bound)
        return F.conv2d(x, weight, self.get(f"{name}.bias", out) if bias else None, stride, kernel // 2, 1, groups)

    def norm(self, x: Tensor, name: str, eps: float = 1e-5, gain: float = 1.0) -> Tensor:
        """`gain` is below 1 at the end of a residual block, so that sums do not grow from block to block."""
        names = [f"{name}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
        self.tensors.setdefault(f"{name}.num_batches_tracked", torch.tensor(7))
        return self.batch_norm(x, names, eps, gain)

    def batch_norm(self, x: Tensor, names: Sequence[str], eps: float, gain: float = 1.0) -> Tensor:
        """`names` of scale, shift, mean and variance. The scale keeps deep outputs dependent on the input."""
        count = x.shape[1]
        scale = self.get(names[0], count, low=gain, high=1.8 * gain)
        shift = self.get(names[1], count, low=-0.3, high=0.3)
        mean = self.get(names[2], count, low=-0.2, high=0.2)
        variance = self.get(names[3], count, low=0.5, high=1.5)
        return F.batch_norm(x, mean, variance, scale, shift, eps=eps)

    def linear(self, x: Tensor, name: str, out: int, *, bias: bool = True) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
        bound = pooled.shape[1] ** -0.5
        weight = self.get(f"{name}.weight", out, pooled.shape[1], low=-bound, high=bound)
        return F.linear(pooled, weight, self.get(f"{name}.bias", out) if bias else None)


def divisible(value: float) -> int:
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride: Sandler et al. 2018, table 2."""


@dataclass(frozen=True)
class Names:
    """Modules of a MobileNetV2: stem, first block (depthwise, project), later blocks (expand, depthwise, project), last
    convolution, classifier."""

    stem: tuple[str, str]
    first: tuple[tuple[str, str], ...]
    block: Callable[[int, int, int], tuple[tuple[str, str], ...]]
    last: tuple[str, str]
    head: str


def _after(prefix: str, *pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((f"{prefix}{conv}", f"{prefix}{norm}") for conv, norm in pairs)


def _hf(*modules: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"mobilenet_v2.{name}.convolution", f"mobilenet_v2.{name}.normalization") for name in modules)


V2_NAMES = {
    "torchvision": Names(
        ("features.0.0", "features.0.1"),
        _after("features.1.conv.", ("0.0", "0.1"), ("1", "2")),
        lambda i, s, j: _after(f"features.{i + 1}.conv.", ("0.0", "0.1"), ("1.0", "1.1"), ("2", "3")),
        ("features.18.0", "features.18.1"),
        "classifier.1",
    ),
    "flat": Names(
        ("features.0.0", "features.0.1"),
        _after("features.1.conv.", ("0", "1"), ("3", "4")),
        lambda i, s, j: _after(f"features.{i + 1}.conv.", ("0", "1"), ("3", "4"), ("6", "7")),
        ("features.18.0", "features.18.1"),
        "classifier.1",
    ),
    "flat_conv": Names(
        ("features.0.0", "features.0.1"),
        _after("features.1.conv.", ("0", "1"), ("3", "4")),
        lambda i, s, j: _after(f"features.{i + 1}.conv.", ("0", "1"), ("3", "4"), ("6", "7")),
        ("conv.0", "conv.1"),
        "classifier",
    ),
    "timm": Names(
        ("conv_stem", "bn1"),
        _after("blocks.0.0.", ("conv_dw", "bn1"), ("conv_pw", "bn2")),
        lambda i, s, j: _after(f"blocks.{s}.{j}.", ("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
        ("conv_head", "bn2"),
        "classifier",
    ),
    "transformers": Names(
        _hf("conv_stem.first_conv")[0],
        _hf("conv_stem.conv_3x3", "conv_stem.reduce_1x1"),
        lambda i, s, j: _hf(f"layer.{i - 1}.expand_1x1", f"layer.{i - 1}.conv_3x3", f"layer.{i - 1}.reduce_1x1"),
        _hf("conv_1x1")[0],
        "classifier",
    ),
}


def mobilenet_v2(
    w: Weights,
    x: Tensor,
    layout: str,
    width: float = 1.0,
    classes: int = 1000,
    *,
    head: bool = True,
    last: int | None = None,
) -> Tensor:
    """Logits; features [N, C, H, W] if not `head`."""
    names = V2_NAMES[layout]
    tensorflow = layout == "transformers"

    def unit(
        x: Tensor, name: tuple[str, str], out: int, kernel: int, stride: int = 1, groups: int = 1, gain: float = 1.0
    ) -> Tensor:
        conv, norm = name
        if tensorflow:
            return w.norm(_same(w, x, conv, out, kernel, stride, groups), norm, 1e-3, gain)
        return w.norm(w.conv(x, conv, out, kernel, stride, groups), norm, gain=gain)

    channels = divisible(32 * width)
    x = F.relu6(unit(x, names.stem, channels, 3, 2))
    index = 0
    for stage, (expansion, base, repeat, stride) in enumerate(V2_STAGES):
        out = divisible(base * width)
        for j in range(repeat):
            parts = names.first if index == 0 else names.block(index, stage, j)
            middle = channels * expansion
            y = x if expansion == 1 else F.relu6(unit(x, parts[0], middle, 1))
            y = F.relu6(unit(y, parts[-2], middle, 3, stride if j == 0 else 1, middle))
            y = unit(y, parts[-1], out, 1, gain=0.25)
            x = x + y if j > 0 else y
            channels = out
            index += 1
    x = F.relu6(unit(x, names.last, last or divisible(1280 * max(1.0, width)), 1))
    return w.linear(x, names.head, classes) if head else x


V1_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
"""Channels, blocks, stride: Howard et al. 2017, table 1."""


def mobilenet_v1(w: Weights, x: Tensor, layout: str, width: float = 1.0, classes: int = 1000) -> Tensor:
    tensorflow = layout != "timm"

    def unit(x: Tensor, conv: str, norm: str, out: int, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
        if layout == "tf_slim":
            return F.relu6(_slim_norm(w, _slim_conv(w, x, conv, out, kernel, stride, groups), norm))
        if tensorflow:
            return F.relu6(w.norm(_same(w, x, conv, out, kernel, stride, groups), norm, 1e-3))
        return F.relu6(w.norm(w.conv(x, conv, out, kernel, stride, groups), norm))

    def named(index: int, stage: int, i: int) -> tuple[tuple[str, str], tuple[str, str]]:
        if layout == "timm":
            first, second = _after(f"blocks.{stage}.{i}.", ("conv_dw", "bn1"), ("conv_pw", "bn2"))
            return first, second
        if layout == "transformers":
            first, second = (
                (f"mobilenet_v1.layer.{k}.convolution", f"mobilenet_v1.layer.{k}.normalization")
                for k in (2 * index, 2 * index + 1)
            )
            return first, second
        depthwise, pointwise = (f"MobilenetV1/Conv2d_{index + 1}_{part}" for part in ("depthwise", "pointwise"))
        return (depthwise, depthwise), (pointwise, pointwise)

    stem = {
        "timm": ("conv_stem", "bn1"),
        "transformers": ("mobilenet_v1.conv_stem.convolution", "mobilenet_v1.conv_stem.normalization"),
        "tf_slim": ("MobilenetV1/Conv2d_0", "MobilenetV1/Conv2d_0"),
    }[layout]
    channels = int(32 * width)
    x = unit(x, *stem, channels, 3, 2)
    index = 0
    for stage, (base, repeat, stride) in enumerate(V1_STAGES):
        for i in range(repeat):
            depthwise, pointwise = named(index, stage, i)
            x = unit(x, *depthwise, channels, 3, stride if i == 0 else 1, channels)
            channels = int(base * width)
            x = unit(x, *pointwise, channels, 1)
            index += 1
    if layout == "tf_slim":
        pooled = F.adaptive_avg_pool2d(x, 1)
        return _slim_conv(w, pooled, "MobilenetV1/Logits/Conv2d_1c_1x1", classes, 1, bias=True).flatten(1)
    return w.linear(x, "classifier", classes)


def _same_padding(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's padding: an odd remainder goes to the bottom and the right."""
    pads: list[int] = []
    for side in (x.shape[3], x.shape[2]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def _same(w: Weights, x: Tensor, name: str, out: int, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
    into = x.shape[1] // groups
    bound = (6 / (into * kernel**2)) ** 0.5
    weight = w.get(f"{name}.weight", out, into, kernel, kernel, low=-bound, high=bound)
    return F.conv2d(_same_padding(x, kernel, stride), weight, None, stride, 0, 1, groups)


def _slim_conv(
    w: Weights, x: Tensor, name: str, out: int, kernel: int, stride: int = 1, groups: int = 1, *, bias: bool = False
) -> Tensor:
    into = x.shape[1]
    bound = (6 / (into // groups * kernel**2)) ** 0.5
    if groups > 1:
        weight = w.get(f"{name}/depthwise_weights", kernel, kernel, into, 1, low=-bound, high=bound).permute(2, 3, 0, 1)
    else:
        weight = w.get(f"{name}/weights", kernel, kernel, into, out, low=-bound, high=bound).permute(3, 2, 0, 1)
    biases = w.get(f"{name}/biases", out) if bias else None
    return F.conv2d(_same_padding(x, kernel, stride), weight, biases, stride, 0, 1, groups)


def _slim_norm(w: Weights, x: Tensor, name: str) -> Tensor:
    leaves = ("gamma", "beta", "moving_mean", "moving_variance")
    return w.batch_norm(x, [f"{name}/BatchNorm/{leaf}" for leaf in leaves], 1e-3)


RESNETS = {
    "resnet18": ((2, 2, 2, 2), False, 1, 64),
    "resnet34": ((3, 4, 6, 3), False, 1, 64),
    "resnet50": ((3, 4, 6, 3), True, 1, 64),
    "resnet101": ((3, 4, 23, 3), True, 1, 64),
    "resnet152": ((3, 8, 36, 3), True, 1, 64),
    "resnext50_32x4d": ((3, 4, 6, 3), True, 32, 4),
    "wide_resnet50_2": ((3, 4, 6, 3), True, 1, 128),
}
"""Blocks, bottlenecks, groups and their channels in the first stage."""


def resnet(w: Weights, x: Tensor, name: str, classes: int = 1000) -> Tensor:
    repeats, bottleneck, groups, group_width = RESNETS[name]
    x = F.max_pool2d(F.relu(w.norm(w.conv(x, "conv1", 64, 7, 2), "bn1")), 3, 2, 1)
    for stage, repeat in enumerate(repeats):
        planes = 64 * 2**stage
        out = 4 * planes if bottleneck else planes
        for i in range(repeat):
            at = f"layer{stage + 1}.{i}"
            stride = 2 if stage > 0 and i == 0 else 1
            if bottleneck:
                middle = groups * group_width * 2**stage
                y = F.relu(w.norm(w.conv(x, f"{at}.conv1", middle, 1), f"{at}.bn1"))
                y = F.relu(w.norm(w.conv(y, f"{at}.conv2", middle, 3, stride, groups), f"{at}.bn2"))
                y = w.norm(w.conv(y, f"{at}.conv3", out, 1), f"{at}.bn3", gain=0.15)
            else:
                y = F.relu(w.norm(w.conv(x, f"{at}.conv1", planes, 3, stride), f"{at}.bn1"))
                y = w.norm(w.conv(y, f"{at}.conv2", out, 3), f"{at}.bn2", gain=0.15)
            if stride > 1 or x.shape[1] != out:
                x = w.norm(w.conv(x, f"{at}.downsample.0", out, 1, stride), f"{at}.downsample.1")
            x = F.relu(y + x)
    return w.linear(x, "fc", classes)


def vgg16_features(w: Weights, x: Tensor, *, normalized: bool) -> Tensor:
    """[N, 512, H / 32, W / 32]."""
    at = 0
    for channels, repeat in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeat):
            x = w.conv(x, f"features.{at}", channels, 3, bias=True)
            x = F.relu(w.norm(x, f"features.{at + 1}") if normalized else x)
            at += 3 if normalized else 2
        x = F.max_pool2d(x, 2, 2)
        at += 1
    return x


def vgg16_head(w: Weights, classes: int = 1000, side: int = 7, hidden: int = 4096) -> None:
    """torchvision's three linear layers."""
    for at, (out, into) in zip((0, 3, 6), ((hidden, 512 * side**2), (hidden, hidden), (classes, hidden)), strict=True):
        w.get(f"classifier.{at}.weight", out, into)
        w.get(f"classifier.{at}.bias", out)


def fd_mobilenet(w: Weights, x: Tensor, width: float = 1.0, classes: int = 1000) -> Tensor:
    """Qin et al. 2018, table 1, with the names of qinzheng93/FD-MobileNet."""
    channels = int(32 * width)
    x = F.relu(w.norm(w.conv(x, "features.conv_0", channels, 3, 2), "features.norm_0"))
    table = ((64, 2), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 4, (1024, 1))
    for i, (base, stride) in enumerate(table):
        x = w.conv(x, f"features.dw_conv_{i}", channels, 3, stride, channels)
        x = F.relu(w.norm(x, f"features.dw_norm_{i}"))
        channels = int(base * width)
        x = F.relu(w.norm(w.conv(x, f"features.pw_conv_{i}", channels, 1), f"features.pw_norm_{i}"))
    return w.linear(x, "classifier", classes)


SHUFFLENETS = {
    (3, 0.5): (12, 120, 240, 480),
    (3, 1.0): (24, 240, 480, 960),
    (3, 1.5): (24, 360, 720, 1440),
    (3, 2.0): (48, 480, 960, 1920),
    (8, 1.0): (24, 384, 768, 1536),
}
"""Channels of the stem and of each stage by groups and width, as megvii publishes them."""


def shufflenet_v1(w: Weights, x: Tensor, groups: int, width: float = 1.0, classes: int = 1000) -> Tensor:
    """Zhang et al. 2017, as in megvii-model/ShuffleNet-Series; `x` has BGR channels."""
    stem, *stages = SHUFFLENETS[groups, width]
    x = F.max_pool2d(F.relu(w.norm(w.conv(x, "first_conv.0", stem, 3, 2), "first_conv.1")), 3, 2, 1)
    index = 0
    for stage, (out, repeat) in enumerate(zip(stages, (4, 8, 4), strict=True)):
        for i in range(repeat):
            main = f"features.{index}.branch_main"
            stride, middle = (2 if i == 0 else 1), out // 4
            y = w.conv(x, f"{main}_1.0", middle, 1, 1, 1 if stage == i == 0 else groups)
            y = F.relu(w.norm(y, f"{main}_1.1"))
            y = w.norm(w.conv(y, f"{main}_1.3", middle, 3, stride, middle), f"{main}_1.4")
            count, _, *size = y.shape
            y = y.reshape(count, middle // groups, groups, *size).transpose(1, 2).reshape(y.shape)
            made = out - x.shape[1] if stride == 2 else out
            y = w.norm(w.conv(y, f"{main}_2.0", made, 1, 1, groups), f"{main}_2.1", gain=0.15)
            x = torch.cat([F.avg_pool2d(x, 3, 2, 1), F.relu(y)], 1) if stride == 2 else F.relu(x + y)
            index += 1
    return w.linear(x, "classifier.0", classes, bias=False)


PLAIN: dict[str, Callable[[Weights, Tensor], Tensor]] = {
    **{
        f"mobilenet_v2 {layout}": partial(
            mobilenet_v2, layout=layout, classes=1001 if layout == "transformers" else 1000
        )
        for layout in V2_NAMES
    },
    **{
        f"mobilenet_v1 {layout}": partial(mobilenet_v1, layout=layout, classes=1000 if layout == "timm" else 1001)
        for layout in ("timm", "transformers", "tf_slim")
    },
    **{f"{name} torchvision": partial(resnet, name=name) for name in RESNETS if not name.startswith("wide")},
    "fd_mobilenet qinzheng93": fd_mobilenet,
    "shufflenet_v1 megvii": partial(shufflenet_v1, groups=3),
    "vgg16 torchvision": partial(vgg16_features, normalized=False),
    "vgg16_bn torchvision": partial(vgg16_features, normalized=True),
}
"""Every layout at its usual width, with the classes of the published file; VGG without its head."""


def published(name: str, device: str = "cpu", side: int = 64) -> dict[str, Tensor]:
    """State dict of a layout in `PLAIN`."""
    w = Weights(device)
    with torch.no_grad():
        PLAIN[name](w, torch.zeros(1, 3, side, side, device=device))
    return w.tensors


def parameters(tensors: dict[str, Tensor]) -> int:
    """Number of trained parameters in a state dict, as publishers count them."""
    counters = ("running_mean", "running_var", "num_batches_tracked", "moving_mean", "moving_variance")
    return sum(tensor.numel() for name, tensor in tensors.items() if not name.endswith(counters))
