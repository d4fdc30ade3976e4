"""Conversion of tensors: outputs equal the published network's, and unknown input normalization is rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from paretofit.models.pretrained.convert import convert_tensors
from paretofit.models.pretrained.names import BYTES, IMAGENET, INCEPTION
from paretofit.models.pretrained.record import PretrainedError
from tests.models.pretrained import published
from tests.models.pretrained.conversion import DIGEST, assert_close, converted, images, run
from tests.models.pretrained.published import PLAIN, V2_NAMES, Weights

BIT_EQUAL = [
    *(f"mobilenet_v2 {layout}" for layout in V2_NAMES if layout != "transformers"),
    "mobilenet_v1 timm",
    "resnet18 torchvision",
    "resnet34 torchvision",
    "resnet50 torchvision",
    "resnext50_32x4d torchvision",
    "fd_mobilenet qinzheng93",
]
"""The same arithmetic in the same order; deeper ResNets only repeat it."""
TENSORFLOW = ["mobilenet_v2 transformers", "mobilenet_v1 transformers", "mobilenet_v1 tf_slim"]


@pytest.mark.parametrize("name", BIT_EQUAL)
def test_logits_equal_the_published_network(name: str, target: Path) -> None:
    x = images()
    weights, expected = run(PLAIN[name], x)
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert torch.equal(network(x), expected)
    assert record.classes == 1000
    assert (record.mean, record.std) == (INCEPTION if name == "mobilenet_v1 timm" else IMAGENET)


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.4])
@pytest.mark.parametrize("layout", ["torchvision", "timm"])
def test_mobilenet_v2_widths_are_converted(layout: str, width: float, target: Path) -> None:
    x = images(32, 32)
    weights, expected = run(lambda w, x: published.mobilenet_v2(w, x, layout, width, 7), x)
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert torch.equal(network(x), expected)
    assert (record.width, record.classes) == (width, 7)
    assert network.blocks[-1].linear.in_features == max(1280, round(1280 * width))  # type: ignore[union-attr]
    # A search trains this slimmable form, whose full network is the file.
    assert record.slimmable_architecture() == network.architecture


@pytest.mark.parametrize("width", [0.25, 1.25])
def test_mobilenet_v1_and_fd_mobilenet_widths_are_converted(width: float, target: Path) -> None:
    x = images(32, 32)
    for forward in (
        lambda w, x: published.mobilenet_v1(w, x, "timm", width),
        lambda w, x: published.fd_mobilenet(w, x, width),
    ):
        weights, expected = run(forward, x)
        network, record = converted(weights.tensors, target)
        with torch.no_grad():
            assert torch.equal(network(x), expected)
        assert record.width == width


@pytest.mark.parametrize("name", TENSORFLOW)
def test_tensorflow_networks_are_equivalent_on_mirrored_images(name: str, target: Path) -> None:
    """Every stride sees an even side at width 32, where SAME padding goes to the right, and an odd side at height 33,
    where it is symmetric like Paretofit's. Not bit-equal, because the epsilon is folded into the scale."""
    x = images(33, 32)
    weights, expected = run(PLAIN[name], x)
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert_close(network(x.flip(3)), expected)
    assert record.classes == 1001
    assert (record.mean, record.std) == INCEPTION
    assert any("mirrored" in note for note in record.notes)


def test_unmirrored_kernels_give_different_logits(target: Path) -> None:
    """Without mirroring the same weights give different logits, because the paddings differ."""
    x = images(33, 32)
    weights, expected = run(PLAIN["mobilenet_v1 tf_slim"], x)
    network, _ = converted(weights.tensors, target)
    with torch.no_grad():
        assert (network(x) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_shufflenet_logits_equal_on_rgb_images(width: float, target: Path) -> None:
    """Equal in double precision only: channels within a group, and so the terms of sums, are in a different order."""
    x = images(64, 48)
    weights, expected = run(lambda w, x: published.shufflenet_v1(w, x, 3, width), x.flip(1))
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert_close(network(x), expected)
        doubled = Weights()
        doubled.tensors = {name: tensor.double() for name, tensor in weights.tensors.items()}
        exact = published.shufflenet_v1(doubled, x.flip(1).double(), 3, width)
        assert_close(network.double()(x.double()), exact, 1e-12)
    assert (record.groups, record.width, record.classes) == (3, width, 1000)
    assert (record.mean, record.std) == BYTES
    assert any("BGR" in note for note in record.notes)


@pytest.mark.parametrize("normalized", [True, False])
def test_vgg_features_equal_the_published_network(normalized: bool, target: Path) -> None:
    """Not bit-equal, because biases are folded into the normalization; the published head is dropped."""
    x = images(32, 32)

    def forward(w: Weights, x: Tensor) -> Tensor:
        published.vgg16_head(w, classes=3, side=1, hidden=4)
        return published.vgg16_features(w, x, normalized=normalized)

    weights, expected = run(forward, x)
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert_close(network.blocks[:-1](x), expected)
    assert record.classes is None
    assert {"classifier.0.weight", "classifier.6.bias"} <= set(record.dropped)
    assert any("fully connected" in note for note in record.notes)


def test_backbone_without_classifier_is_converted(target: Path) -> None:
    x = images(32, 32)
    weights, expected = run(lambda w, x: published.mobilenet_v2(w, x, "flat_conv", head=False), x)
    network, record = converted(weights.tensors, target)
    assert record.classes is None
    with torch.no_grad():
        assert torch.equal(network.blocks[:-1](x), expected)


@pytest.mark.parametrize("name", ["resnet50_caffe-788b5fa3.pth", "bgr_resnet.safetensors", "detectron2 R-50"])
def test_names_that_indicate_bgr_are_rejected(name: str, small: dict[str, Tensor], target: Path) -> None:
    with pytest.raises(PretrainedError, match="seems to be for BGR pixels"):
        convert_tensors(small, target, sha256=DIGEST, source_name=name)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mean": (103.5, 116.3, 123.7)}, "mean must be for pixels in 0..1"),
        ({"std": (57.4, 57.1, 58.4)}, "std must be for pixels in 0..1"),
        ({"mean": (0.406, 0.456, 0.485)}, "mean is ImageNet's in the order blue, green, red"),
        ({"std": (0.225, 0.224, 0.229)}, "std is ImageNet's in the order blue, green, red"),
        ({"mean": (0.5,)}, "mean needs 3 numbers"),
        ({"std": (0.0, 0.1, 0.1)}, "std.0"),
        ({"class_names": ["one"]}, "class_names has 1 names for 5 classes"),
    ],
)
def test_invalid_normalization_and_classes_are_rejected(
    params: dict[str, Any], message: str, small: dict[str, Tensor], target: Path
) -> None:
    with pytest.raises(PretrainedError, match=message):
        convert_tensors(small, target, sha256=DIGEST, source_name="weights", **params)


def test_requested_normalization_is_recorded(small: dict[str, Tensor], target: Path) -> None:
    _, record = converted(small, target, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert (record.mean, record.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_gray_weights_require_explicit_normalization(small: dict[str, Tensor], target: Path) -> None:
    gray = small | {"features.0.0.weight": small["features.0.0.weight"][:, :1]}
    with pytest.raises(PretrainedError, match="mean: the file does not say how its 1-channel images were normalized"):
        convert_tensors(gray, target, sha256=DIGEST, source_name="weights")
    _, record = converted(gray, target, mean=(0.3,), std=(0.3,))
    assert (record.channels, record.mean) == (1, (0.3,))
