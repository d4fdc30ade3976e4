"""Tensor names of published networks, by ours: one pure function for each layout. Torch-free.

Ours are `blocks.N.{part}.{conv|norm}.{leaf}`. A bias of a convolution that is normalized is `blocks.N.conv.bias` here;
the conversion folds it into the normalization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from paretofit.models.families import vgg
from paretofit.models.families.resnet import VARIANTS

NORM_LEAVES = ("weight", "bias", "running_mean", "running_var")
TF_LEAVES = ("gamma", "beta", "moving_mean", "moving_variance")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and std of torchvision and of most of timm's files."""
INCEPTION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Pixels in -1..1: TensorFlow's MobileNets, and timm's MobileNetV1."""
BYTES = ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
"""Pixels in 0..255, not normalized."""

Unit = tuple[str, str, str]
"""Our prefix of a convolution unit, their convolution, their normalization."""

TF_NOTE = (
    "trained with TensorFlow's SAME padding: the kernels are mirrored left-right, so that at even widths the padding "
    "is the original's on the mirrored image; at even heights it is a pixel above instead of below. The epsilon of "
    "0.001 is folded into the scale"
)
BACKGROUND_NOTE = "row 0 of the classifier is the background class"


@dataclass(frozen=True)
class Layout:
    """How one publisher names and stores the tensors of some families.

    `names` maps our names to theirs for a family. `head` are their possible names of a linear classifier: its module,
    or weight and bias with a `|` between; empty: its classifier has no counterpart in ours. What starts with one of
    `head_modules` belongs to a classifier of whatever form. `normalization` is the mean and std that the publisher
    trains with. `tensorflow`: SAME padding and epsilon 1e-3; `hwio`: TensorFlow's order of dimensions; `bgr`: trained
    on BGR images.
    """

    name: str
    families: tuple[str, ...]
    names: Callable[[str], dict[str, str]]
    head: tuple[str, ...]
    head_modules: tuple[str, ...]
    normalization: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    head_bias: bool = True
    tensorflow: bool = False
    hwio: bool = False
    bgr: bool = False
    notes: tuple[str, ...] = ()


def _pairs(units: Iterator[Unit]) -> dict[str, str]:
    found: dict[str, str] = {}
    for ours, conv, norm in units:
        found[f"{ours}.conv.weight"] = f"{conv}.weight"
        found |= {f"{ours}.norm.{leaf}": f"{norm}.{leaf}" for leaf in NORM_LEAVES}
    return found


def v2_torchvision(_: str) -> dict[str, str]:
    """torchvision's mobilenetv2.py."""

    def units() -> Iterator[Unit]:
        yield "blocks.0", "features.0.0", "features.0.1"
        yield "blocks.1.depthwise", "features.1.conv.0.0", "features.1.conv.0.1"
        yield "blocks.1.project", "features.1.conv.1", "features.1.conv.2"
        for i in range(2, 18):
            theirs = f"features.{i}.conv"
            yield f"blocks.{i}.expand", f"{theirs}.0.0", f"{theirs}.0.1"
            yield f"blocks.{i}.depthwise", f"{theirs}.1.0", f"{theirs}.1.1"
            yield f"blocks.{i}.project", f"{theirs}.2", f"{theirs}.3"
        yield "blocks.18", "features.18.0", "features.18.1"

    return _pairs(units())


def v2_flat(last: str) -> Callable[[str], dict[str, str]]:
    """tonylins/pytorch-mobilenet-v2 and weights derived from it; `last` is its last convolution's module."""

    def units() -> Iterator[Unit]:
        yield "blocks.0", "features.0.0", "features.0.1"
        yield "blocks.1.depthwise", "features.1.conv.0", "features.1.conv.1"
        yield "blocks.1.project", "features.1.conv.3", "features.1.conv.4"
        for i in range(2, 18):
            for part, at in (("expand", 0), ("depthwise", 3), ("project", 6)):
                yield f"blocks.{i}.{part}", f"features.{i}.conv.{at}", f"features.{i}.conv.{at + 1}"
        yield "blocks.18", f"{last}.0", f"{last}.1"

    return lambda _: _pairs(units())


def v2_timm(_: str) -> dict[str, str]:
    """timm's efficientnet.py, mobilenetv2_*."""

    def units() -> Iterator[Unit]:
        yield "blocks.0", "conv_stem", "bn1"
        yield "blocks.1.depthwise", "blocks.0.0.conv_dw", "blocks.0.0.bn1"
        yield "blocks.1.project", "blocks.0.0.conv_pw", "blocks.0.0.bn2"
        for i, at in enumerate(_stages(2, 3, 4, 3, 3, 1, first=1), start=2):
            yield f"blocks.{i}.expand", f"blocks.{at}.conv_pw", f"blocks.{at}.bn1"
            yield f"blocks.{i}.depthwise", f"blocks.{at}.conv_dw", f"blocks.{at}.bn2"
            yield f"blocks.{i}.project", f"blocks.{at}.conv_pwl", f"blocks.{at}.bn3"
        yield "blocks.18", "conv_head", "bn2"

    return _pairs(units())


def v2_transformers(_: str) -> dict[str, str]:
    """transformers' modeling_mobilenet_v2.py, converted from TensorFlow."""

    def units() -> Iterator[str]:
        yield "blocks.0|conv_stem.first_conv"
        yield "blocks.1.depthwise|conv_stem.conv_3x3"
        yield "blocks.1.project|conv_stem.reduce_1x1"
        for i in range(16):
            for ours, theirs in (("expand", "expand_1x1"), ("depthwise", "conv_3x3"), ("project", "reduce_1x1")):
                yield f"blocks.{i + 2}.{ours}|layer.{i}.{theirs}"
        yield "blocks.18|conv_1x1"

    return _pairs(_transformers(units()))


def v1_timm(_: str) -> dict[str, str]:
    """timm's efficientnet.py, mobilenetv1_*."""

    def units() -> Iterator[Unit]:
        yield "blocks.0", "conv_stem", "bn1"
        for i, at in enumerate(_stages(1, 2, 2, 6, 2), start=1):
            yield f"blocks.{i}.depthwise", f"blocks.{at}.conv_dw", f"blocks.{at}.bn1"
            yield f"blocks.{i}.pointwise", f"blocks.{at}.conv_pw", f"blocks.{at}.bn2"

    return _pairs(units())


def v1_transformers(_: str) -> dict[str, str]:
    """transformers' modeling_mobilenet_v1.py, converted from TensorFlow."""

    def units() -> Iterator[str]:
        yield "blocks.0|conv_stem"
        for i in range(13):
            yield f"blocks.{i + 1}.depthwise|layer.{2 * i}"
            yield f"blocks.{i + 1}.pointwise|layer.{2 * i + 1}"

    return _pairs(_transformers(units()))


def v1_slim(_: str) -> dict[str, str]:
    """Variables of TensorFlow-slim's mobilenet_v1.py."""
    found: dict[str, str] = {}

    def add(ours: str, module: str, weights: str) -> None:
        found[f"{ours}.conv.weight"] = f"{module}/{weights}"
        for leaf, theirs in zip(NORM_LEAVES, TF_LEAVES, strict=True):
            found[f"{ours}.norm.{leaf}"] = f"{module}/BatchNorm/{theirs}"

    add("blocks.0", "MobilenetV1/Conv2d_0", "weights")
    for i in range(1, 14):
        add(f"blocks.{i}.depthwise", f"MobilenetV1/Conv2d_{i}_depthwise", "depthwise_weights")
        add(f"blocks.{i}.pointwise", f"MobilenetV1/Conv2d_{i}_pointwise", "weights")
    return found


def fd_qinzheng(_: str) -> dict[str, str]:
    """qinzheng93/FD-MobileNet, MobileNet.py."""

    def units() -> Iterator[Unit]:
        yield "blocks.0", "features.conv_0", "features.norm_0"
        for i in range(11):
            yield f"blocks.{i + 1}.depthwise", f"features.dw_conv_{i}", f"features.dw_norm_{i}"
            yield f"blocks.{i + 1}.pointwise", f"features.pw_conv_{i}", f"features.pw_norm_{i}"

    return _pairs(units())


def resnets(family: str) -> dict[str, str]:
    """torchvision's and timm's resnet.py."""
    variant = VARIANTS[family]
    parts = ("reduce", "spatial", "expand") if variant.bottleneck else ("first", "second")

    def units() -> Iterator[Unit]:
        yield "blocks.0", "conv1", "bn1"
        # Block 1 is the max-pool.
        for i, at in enumerate(_stages(*variant.repeats, first=1), start=2):
            for j, part in enumerate(parts, start=1):
                yield f"blocks.{i}.{part}", f"layer{at}.conv{j}", f"layer{at}.bn{j}"
            if at.endswith(".0") and (variant.bottleneck or not at.startswith("1")):
                yield f"blocks.{i}.shortcut", f"layer{at}.downsample.0", f"layer{at}.downsample.1"

    return _pairs(units())


def vgg_bn(_: str) -> dict[str, str]:
    """torchvision's and timm's vgg16_bn: convolution with bias, normalization, ReLU."""
    found: dict[str, str] = {}
    for ours, at in _vgg(modules=3):
        found |= _pairs(iter([(ours, f"features.{at}", f"features.{at + 1}")]))
        found[f"{ours}.conv.bias"] = f"features.{at}.bias"
    return found


def vgg_plain(_: str) -> dict[str, str]:
    """torchvision's and timm's vgg16: convolution with bias, ReLU."""
    return {
        f"{ours}.conv.{leaf}": f"features.{at}.{leaf}" for ours, at in _vgg(modules=2) for leaf in ("weight", "bias")
    }


def shufflenet_megvii(_: str) -> dict[str, str]:
    """megvii-model/ShuffleNet-Series, ShuffleNetV1."""

    def units() -> Iterator[Unit]:
        yield "blocks.0", "first_conv.0", "first_conv.1"
        # Block 1 is the max-pool.
        for i in range(16):
            main = f"features.{i}.branch_main"
            yield f"blocks.{i + 2}.compress", f"{main}_1.0", f"{main}_1.1"
            yield f"blocks.{i + 2}.depthwise", f"{main}_1.3", f"{main}_1.4"
            yield f"blocks.{i + 2}.expand", f"{main}_2.0", f"{main}_2.1"

    return _pairs(units())


def _stages(*repeats: int, first: int = 0) -> Iterator[str]:
    """`stage.block` for each block."""
    return (f"{stage}.{i}" for stage, repeat in enumerate(repeats, start=first) for i in range(repeat))


def _transformers(units: Iterator[str]) -> Iterator[Unit]:
    for unit in units:
        ours, _, theirs = unit.partition("|")
        yield ours, f"{theirs}.convolution", f"{theirs}.normalization"


def _vgg(modules: int) -> Iterator[tuple[str, int]]:
    """Our prefix and the index in `features` of each convolution, which is followed by `modules` - 1 modules of its
    own."""
    block = at = 0
    for _, repeat in vgg.STAGES:
        for _ in range(repeat):
            yield f"blocks.{block}", at
            block, at = block + 1, at + modules
        block, at = block + 1, at + 1


V1, V2, FD, SHUFFLE, VGG = ("mobilenet_v1",), ("mobilenet_v2",), ("fd_mobilenet",), ("shufflenet_v1",), ("vgg16",)
CLASSIFIER = ("classifier.",)
VGG_HEAD = ("classifier.", "pre_logits.", "head.")
VGG_NOTE = "the fully connected layers are not taken: ours are a global average pool and one linear layer"
STRIDE_NOTE = (
    "strides are taken to be in the 3x3 convolutions, as in torchvision and timm; Caffe's are in the first 1x1"
)
SLIM_HEAD = "MobilenetV1/Logits/Conv2d_1c_1x1"
TF = (TF_NOTE,)

LAYOUTS: tuple[Layout, ...] = (
    Layout("torchvision", V2, v2_torchvision, ("classifier.1",), CLASSIFIER),
    Layout("flat", V2, v2_flat("features.18"), ("classifier", "classifier.1"), CLASSIFIER),
    Layout("flat", V2, v2_flat("conv"), ("classifier", "classifier.1"), CLASSIFIER),
    Layout("timm", V2, v2_timm, ("classifier",), CLASSIFIER),
    Layout("transformers", V2, v2_transformers, ("classifier",), CLASSIFIER, INCEPTION, tensorflow=True, notes=TF),
    Layout("timm", V1, v1_timm, ("classifier",), CLASSIFIER, INCEPTION),
    Layout("transformers", V1, v1_transformers, ("classifier",), CLASSIFIER, INCEPTION, tensorflow=True, notes=TF),
    Layout(
        "tf_slim",
        V1,
        v1_slim,
        (f"{SLIM_HEAD}/weights|{SLIM_HEAD}/biases",),
        ("MobilenetV1/Logits/",),
        INCEPTION,
        tensorflow=True,
        hwio=True,
        notes=TF,
    ),
    Layout("qinzheng93", FD, fd_qinzheng, ("classifier",), CLASSIFIER),
    Layout("torchvision", ("resnet18", "resnet34"), resnets, ("fc",), ("fc.",)),
    Layout(
        "torchvision",
        ("resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
        resnets,
        ("fc",),
        ("fc.",),
        notes=(STRIDE_NOTE,),
    ),
    Layout("torchvision", VGG, vgg_bn, (), VGG_HEAD, notes=(VGG_NOTE,)),
    Layout("torchvision", VGG, vgg_plain, (), VGG_HEAD, notes=(VGG_NOTE,)),
    Layout(
        "megvii",
        SHUFFLE,
        shufflenet_megvii,
        ("classifier.0",),
        CLASSIFIER,
        BYTES,
        head_bias=False,
        bgr=True,
        notes=("trained on BGR pixels of 0..255: the first convolution's input channels are reversed, to take RGB",),
    ),
)
