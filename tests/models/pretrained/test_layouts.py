"""Layouts by names and shapes: published layouts are recognized, and any deviation is rejected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paretofit.models.build import build
from paretofit.models.families.registry import FAMILIES, architecture
from paretofit.models.pretrained.forms import tensor_shapes
from paretofit.models.pretrained.layouts import Match, recognize
from paretofit.models.pretrained.names import LAYOUTS
from paretofit.models.pretrained.record import PretrainedError
from paretofit.models.pretrained.shuffle import shuffle_matches, shuffle_order
from tests.models.pretrained import published
from tests.models.pretrained.published import PLAIN, V2_NAMES, Weights, parameters

IMAGE = torch.zeros(1, 3, 64, 64, device="meta")
Shapes = dict[str, tuple[int, ...]]

PARAMETERS = {
    "mobilenet_v2 torchvision": 3_504_872,
    "mobilenet_v2 timm": 3_504_872,
    "mobilenet_v1 timm": 4_231_976,
    "resnet18 torchvision": 11_689_512,
    "resnet34 torchvision": 21_797_672,
    "resnet50 torchvision": 25_557_032,
    "resnet101 torchvision": 44_549_160,
    "resnet152 torchvision": 60_192_808,
    "resnext50_32x4d torchvision": 25_028_904,
    "vgg16 torchvision": 14_714_688,
}
"""As torchvision and timm document them; VGG's without its head."""


@cache
def _published(name: str) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in published.published(name, "meta").items()}


def shapes(name: str) -> Shapes:
    return dict(_published(name))


def family_of(name: str) -> str:
    return name.split()[0].removesuffix("_bn")


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_reference_networks_have_published_parameter_counts(name: str, count: int) -> None:
    assert parameters(published.published(name, "meta")) == count


def test_every_layout_is_tested() -> None:
    assert len(PLAIN) == sum(len(layout.families) for layout in LAYOUTS)


@pytest.mark.parametrize("name", PLAIN)
def test_published_layouts_are_recognized(name: str) -> None:
    tensors = shapes(name)
    match = recognize(tensors)
    family, layout = name.split()
    assert match.family == family_of(name)
    assert match.layout == layout.removesuffix("_conv")
    assert (match.form.width, match.channels, match.nominal) == (1.0, 3, 224)
    assert match.classes == (
        None if family.startswith("vgg") else 1001 if layout in ("transformers", "tf_slim") else 1000
    )
    used = {*match.names.values(), *match.head.values(), *match.dropped}
    assert used == {key for key in tensors if not key.endswith("num_batches_tracked")}
    assert not match.dropped
    backbone = {key for key in tensor_shapes(match.architecture()) if ".linear." not in key}
    assert {key for key in match.names if not key.endswith("conv.bias")} <= backbone
    if name != "vgg16 torchvision":
        assert {key for key in match.names if not key.endswith("conv.bias")} == backbone


@pytest.mark.parametrize(
    "family", ["wrn_10_1", *(name for name in FAMILIES if not name.startswith(("scalenet", "wrn_")))]
)
def test_tensor_shapes_are_those_of_the_module(family: str) -> None:
    network = architecture(family)
    expected = {
        key: tuple(tensor.shape)
        for key, tensor in build(network, "meta").state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert tensor_shapes(network) == expected


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.0, 1.4])
@pytest.mark.parametrize("layout", V2_NAMES)
def test_mobilenet_v2_widths_are_recognized(layout: str, width: float) -> None:
    w = Weights("meta")
    published.mobilenet_v2(w, IMAGE, layout, width)
    match = recognize({key: tuple(tensor.shape) for key, tensor in w.tensors.items()})
    assert (match.family, match.form.width) == ("mobilenet_v2", width)
    assert match.architecture() == architecture("mobilenet_v2", width=width)


def test_narrowed_last_channels_are_recognized() -> None:
    """transformers without `finegrained_output`: 1280 x 0.35 in place of 1280."""
    w = Weights("meta")
    published.mobilenet_v2(w, IMAGE, "transformers", 0.35, last=448)
    form = recognize({key: tuple(tensor.shape) for key, tensor in w.tensors.items()}).form
    assert (form.width, form.keep_last_channels) == (0.35, False)


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75, 1.0, 1.25])
@pytest.mark.parametrize("layout", ["timm", "transformers", "tf_slim", "qinzheng93"])
def test_mobilenet_v1_widths_are_recognized(layout: str, width: float) -> None:
    w, x = Weights("meta"), IMAGE
    if layout == "qinzheng93":
        published.fd_mobilenet(w, x, width)
    else:
        published.mobilenet_v1(w, x, layout, width)
    match = recognize({key: tuple(tensor.shape) for key, tensor in w.tensors.items()})
    assert (match.layout, match.form.width) == (layout, width)


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_shufflenet_widths_are_recognized(width: float) -> None:
    match = recognize(_shufflenet(3, width))
    assert (match.family, match.form.width, match.form.groups) == ("shufflenet_v1", width, 3)


def test_shufflenet_with_8_groups_is_rejected() -> None:
    with pytest.raises(
        PretrainedError, match=r"8 groups cannot be used: megvii's channel shuffle .* use weights with 3 groups"
    ):
        recognize(_shufflenet(8, 1.0))
    assert not shuffle_matches(8)
    assert shuffle_matches(3)


def test_megvii_width_of_one_and_a_half_is_rejected() -> None:
    with pytest.raises(PretrainedError, match="wrong shape first_conv"):
        recognize(_shufflenet(3, 1.5))


def _shufflenet(groups: int, width: float) -> Shapes:
    w = Weights("meta")
    published.shufflenet_v1(w, IMAGE, groups, width)
    return {key: tuple(tensor.shape) for key, tensor in w.tensors.items()}


@pytest.mark.parametrize("channels", [30, 60, 120, 240])
def test_shuffle_order_is_a_permutation_within_groups(channels: int) -> None:
    order = shuffle_order(channels, 3)
    assert order is not None
    for permutation in order:
        assert sorted(permutation) == list(range(channels))
        assert all(ours // (channels // 3) == theirs // (channels // 3) for ours, theirs in enumerate(permutation))


def _stripped(key: str) -> str:
    return key.removeprefix("mobilenet_v1.").removeprefix("mobilenet_v2.")


EVERY = [name for name in PLAIN if not name.startswith(("resnet101", "resnet152", "resnet34"))]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("at", [0, 0.4, -2, -1])
def test_missing_tensor_is_named(name: str, at: float) -> None:
    tensors = shapes(name)
    weights = [key for key in tensors if not key.endswith("num_batches_tracked")]
    key = weights[int(at * len(weights)) if at >= 0 else int(at)]
    del tensors[key]
    if key == "classifier.0.weight":
        # The only tensor of megvii's classifier: without it the file is a backbone.
        assert recognize(tensors).classes is None
        return
    with pytest.raises(PretrainedError, match=f"missing {re.escape(_stripped(key))}"):
        recognize(tensors)


@pytest.mark.parametrize("name", EVERY)
def test_surplus_tensor_is_named(name: str) -> None:
    with pytest.raises(PretrainedError, match=r"surplus layer9\.se\.weight"):
        recognize(shapes(name) | {"layer9.se.weight": (64, 64)})


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("at", [0.0, 0.5, 0.9])
def test_tensor_of_wrong_shape_is_named(name: str, at: float) -> None:
    tensors = shapes(name)
    weights = [key for key in tensors if not key.endswith("num_batches_tracked")]
    key = weights[round(at * (len(weights) - 1))]
    tensors[key] = (*tensors[key][:-1], tensors[key][-1] + 1)
    with pytest.raises(PretrainedError) as caught:
        recognize(tensors)
    assert f"wrong shape {_stripped(key)} " in str(caught.value)
    assert "instead of" in str(caught.value)


def test_error_lists_three_tensors_of_each_kind() -> None:
    tensors = shapes("resnet18 torchvision")
    for key in [key for key in tensors if key.startswith("layer4.1.bn")]:
        del tensors[key]
    with pytest.raises(PretrainedError) as caught:
        recognize(tensors | {f"se.{i}": (1,) for i in range(4)} | {"conv1.weight": (64, 3, 3, 3)})
    text = str(caught.value)
    assert "missing layer4.1.bn1.weight, layer4.1.bn1.bias, layer4.1.bn1.running_mean and 5 more" in text
    assert "surplus se.0, se.1, se.2 and 1 more" in text
    assert "wrong shape conv1.weight 64x3x3x3 instead of 64x3x7x7" in text


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "backbone.", "encoder.", "module._orig_mod.", "model.backbone."]
)
def test_prefixes_are_stripped(prefix: str) -> None:
    tensors = shapes("resnet18 torchvision")
    match = recognize({prefix + key: shape for key, shape in tensors.items()})
    assert set(match.names.values()) < {prefix + key for key in tensors}
    assert match.names["blocks.0.conv.weight"] == f"{prefix}conv1.weight"
    # Many wrappers keep the head next to the prefixed backbone.
    match = recognize({key if key.startswith("fc.") else prefix + key: shape for key, shape in tensors.items()})
    assert match.classes == 1000


def test_duplicate_networks_in_one_file_are_rejected() -> None:
    tensors = shapes("resnet18 torchvision")
    with pytest.raises(PretrainedError, match=r"conv1.weight and module.conv1.weight are the same tensor"):
        recognize(tensors | {f"module.{key}": shape for key, shape in tensors.items()})


def test_transformers_backbone_is_recognized() -> None:
    tensors = {
        key.removeprefix("mobilenet_v2."): shape
        for key, shape in shapes("mobilenet_v2 transformers").items()
        if not key.startswith("classifier")
    }
    assert recognize(tensors).classes is None


def test_background_row_is_noted() -> None:
    assert any("row 0" in note for note in recognize(shapes("mobilenet_v1 tf_slim")).notes)
    tensors = shapes("mobilenet_v1 transformers") | {"classifier.weight": (5, 1024), "classifier.bias": (5,)}
    assert not any("row 0" in note for note in recognize(tensors).notes)


def test_unknown_heads_are_dropped() -> None:
    tensors = {key: shape for key, shape in shapes("resnet18 torchvision").items() if not key.startswith("fc.")}
    tensors |= {"fc.0.weight": (32, 512), "fc.0.bias": (32,), "fc.2.weight": (5, 32), "fc.2.bias": (5,)}
    match = recognize(tensors)
    assert match.classes is None
    assert {"fc.0.weight", "fc.2.bias"} <= set(match.dropped)


def test_vgg_head_is_dropped() -> None:
    w = Weights("meta")
    published.vgg16_head(w)
    match = recognize(shapes("vgg16 torchvision") | {key: tuple(tensor.shape) for key, tensor in w.tensors.items()})
    assert match.classes is None
    assert match.dropped == tuple(sorted(w.tensors))
    timm = {"pre_logits.fc1.weight": (4096, 512, 7, 7), "head.fc.weight": (1000, 4096), "head.fc.bias": (1000,)}
    assert recognize(shapes("vgg16_bn torchvision") | timm).classes is None


@pytest.mark.parametrize("name", ["resnet18 torchvision", "mobilenet_v2 timm", "mobilenet_v1 tf_slim"])
@pytest.mark.parametrize("channels", [1, 4])
def test_other_input_channels_are_recognized(name: str, channels: int) -> None:
    tensors = shapes(name)
    (stem,) = [key for key, shape in tensors.items() if 3 in shape[1:3] and len(shape) == 4 and shape.count(3) != 2]
    tensors[stem] = tuple(
        channels if size == 3 and i == (2 if "Mobilenet" in stem else 1) else size
        for i, size in enumerate(tensors[stem])
    )
    assert recognize(tensors).channels == channels


def test_tensorflow_averages_replace_weights_and_slots_are_dropped() -> None:
    tensors = shapes("mobilenet_v1 tf_slim")
    weight = "MobilenetV1/Conv2d_0/weights"
    extra: Shapes = {
        f"{weight}/RMSProp": tensors[weight],
        f"{weight}/ExponentialMovingAverage": tensors[weight],
        "global_step": (),
    }
    match = recognize(tensors | extra)
    assert match.names["blocks.0.conv.weight"] == f"{weight}/ExponentialMovingAverage"
    assert set(match.dropped) == {weight, f"{weight}/RMSProp"}


def test_bottleneck_stride_assumption_is_noted() -> None:
    """Files in Caffe's form have the same names and shapes."""
    assert any("strides are taken to be in the 3x3" in note for note in recognize(shapes("resnet50 torchvision")).notes)


def test_tensor_order_does_not_matter() -> None:
    """Tensors are mapped by name, never by position."""
    tensors = shapes("mobilenet_v2 torchvision")
    backwards = recognize(dict(reversed(tensors.items())))
    assert backwards.names == recognize(tensors).names


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("stem.conv1.weight", "detectron2's ResNets take BGR pixels"),
        ("res2_0_branch2a_w", "Caffe2's ResNets take BGR pixels"),
        ("features.dw_conv_12.weight", "trained with ReLU, but Paretofit's has ReLU6"),
        ("blocks.0.conv.weight", "the file lacks the record"),
    ],
)
def test_known_unusable_files_are_rejected(key: str, message: str) -> None:
    with pytest.raises(PretrainedError, match=message):
        recognize({key: (1,), "other": (2, 2)})


def test_wide_resnet_is_not_recognized_as_resnet50() -> None:
    w = Weights("meta")
    published.resnet(w, IMAGE, "wide_resnet50_2")
    with pytest.raises(PretrainedError, match=r"wrong shape .* instead of"):
        recognize({key: tuple(tensor.shape) for key, tensor in w.tensors.items()})


def test_unknown_weights_error_lists_supported_networks() -> None:
    with pytest.raises(
        PretrainedError, match=r"unknown weights \(the first tensors are a, b\). Supported are MobileNetV2"
    ):
        recognize({"a": (1,), "b": (2,)})
    with pytest.raises(PretrainedError, match="unknown weights"):
        recognize({})


_SIZES = st.lists(st.integers(-2, 2**70), max_size=5).map(tuple)
_KEYS = st.one_of(st.text(max_size=12), st.sampled_from(sorted({key for name in EVERY for key in shapes(name)})))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(_KEYS, _SIZES, max_size=12))
def test_arbitrary_names_and_shapes_raise_only_known_errors(tensors: Shapes) -> None:
    _only_pretrained_error(tensors)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["mobilenet_v2 flat", "resnet18 torchvision", "shufflenet_v1 megvii", "mobilenet_v1 tf_slim"]),
    st.data(),
)
def test_arbitrary_changes_raise_only_known_errors(name: str, data: st.DataObject) -> None:
    tensors = shapes(name)
    for key in data.draw(st.lists(st.sampled_from(sorted(tensors)), max_size=6)):
        if (size := data.draw(st.none() | _SIZES)) is None:
            tensors.pop(key, None)
        else:
            tensors[key] = size
    _only_pretrained_error(tensors)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_RECORD = architecture("mobilenet_v1", nominal=32, classes=3, base_width=0.25).to_json()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*_RECORD, "kind", "width"]), _JSON, st.integers(0, 10**500))
def test_arbitrary_records_raise_only_known_errors(key: str, value: object, size: int) -> None:
    block = _RECORD["blocks"][-2] | {"out_channels": size}
    for changed in (
        {key: value},
        {"architecture": value},
        {"architecture": _RECORD | {key: value}},
        {"architecture": _RECORD | {"blocks": [*_RECORD["blocks"][:-2], block, _RECORD["blocks"][-1]]}},
        {"kind": "weights", "family": "vgg16", "width": 1, key: value},
    ):
        _only_pretrained_error({"blocks.0.conv.weight": (8, 3, 3, 3)}, changed)


def _only_pretrained_error(tensors: Shapes, record: Mapping[str, object] | None = None) -> Match | None:
    try:
        return recognize(tensors, record)
    except PretrainedError:
        return None
