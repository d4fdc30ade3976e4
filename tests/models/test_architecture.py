"""A network as data: JSON round trips, and errors for invalid data."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretofit.models.architecture import FORMAT_VERSION, Architecture, ArchitectureError, channel_vector, register
from paretofit.models.families.registry import architecture
from paretofit.models.kinds.basic import Classifier, Conv
from paretofit.models.kinds.pooling import MaxPool
from paretofit.models.kinds.sampling import Policy, sampled
from tests.models.forms import FORMS

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_FORMS = {
    "fd_mobilenet": architecture("fd_mobilenet", width=0.5, slimmable=True, base_width=0.25, nominal=32, classes=10),
    "fd_shufflenet": architecture("fd_shufflenet", width=0.5, groups=8, nominal=32, classes=10),
    "mobilenet_v1": architecture("mobilenet_v1", width=0.5),
    "mobilenet_v2": architecture("mobilenet_v2", width=0.7, slimmable=True),
    "resnet18": architecture("resnet18", nominal=64, classes=200),
    "resnet50": architecture("resnet50", width=0.9, slimmable=True),
    "resnext50_32x4d": architecture("resnext50_32x4d", width=0.5),
    "sampled_resnet18": sampled(architecture("resnet18", width=0.125, nominal=32, classes=10), Policy(density=0.5)),
    "scalenet20": architecture("scalenet20", nominal=32, classes=10),
    "scalenet50_light": architecture("scalenet50_light"),
    "shufflenet_v1": architecture("shufflenet_v1", width=0.25),
    "resnet18_shaped": FORMS["resnet18 shaped"],
    "vgg16": architecture("vgg16", width=0.25, slimmable=True, nominal=32, classes=100),
    "wrn_16_4": architecture("wrn_16_4", width=0.9, nominal=32, classes=100),
}


@settings(deadline=None)
@given(
    family=st.sampled_from(
        ["fd_mobilenet", "mobilenet_v1", "mobilenet_v2", "resnet18", "resnet50", "resnext50_32x4d", "vgg16", "wrn_22_3"]
    ),
    width=st.floats(0.05, 2),
    slimmable=st.booleans(),
    base_width=st.floats(0.1, 1),
    nominal=st.integers(4, 512),
    classes=st.integers(1, 2000),
    channels=st.integers(1, 4),
)
def test_json_round_trip(**options: Any) -> None:
    network = architecture(**options)
    parsed = Architecture.from_json(json.loads(json.dumps(network.to_json())))
    assert parsed == network
    assert hash(parsed) == hash(network)
    assert parsed.key == network.key


@pytest.mark.parametrize("name", GOLDEN_FORMS)
def test_golden_file_loads(name: str) -> None:
    stored = json.loads((GOLDEN / f"{name}.json").read_text())
    assert Architecture.from_json(stored["architecture"]) == GOLDEN_FORMS[name]
    assert GOLDEN_FORMS[name].to_json() == stored["architecture"]
    assert GOLDEN_FORMS[name].key == stored["key"]


def test_masks_saved_without_a_tile_size_are_per_position() -> None:
    stored = json.loads((GOLDEN / "sampled_resnet18_by_positions.json").read_text())
    assert Architecture.from_json(stored["architecture"]) == GOLDEN_FORMS["sampled_resnet18"]


def test_key_is_stable_across_processes() -> None:
    program = "from paretofit.models.families.registry import architecture as a; print(a('fd_mobilenet', width=.5).key)"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == architecture("fd_mobilenet", width=0.5).key


def test_keys_are_unique() -> None:
    assert len({network.key for network in FORMS.values()}) == len(FORMS)


def test_widths_with_equal_channels_are_the_same_architecture() -> None:
    assert architecture("mobilenet_v1", width=0.5, slimmable=True) == architecture(
        "mobilenet_v1", width=0.5003, slimmable=True
    )


def _widths_between_changes(bases: set[int], least: float) -> list[float]:
    """`least`, 1, and one width between any two at which a rounded channel count changes: covers all networks."""
    changes = {least, 1.0}
    for base in bases:
        for multiple in range(0, base + 1, 8):
            changes |= {w for w in ((multiple + 4) / base, multiple / 0.9 / base) if least < w < 1}
    midpoints = ((low + high) / 2 for low, high in pairwise(sorted(changes)) if high - low > 1e-9)
    return [least, *midpoints, 1.0]


@pytest.mark.parametrize(
    ("family", "least", "count"),
    [("mobilenet_v1", 0.25, 187), ("mobilenet_v2", 0.7, 24), ("resnet50", 0.9, 49), ("wrn_28_10", 0.9, 15)],
)
def test_distinct_channel_vectors(family: str, least: float, count: int) -> None:
    """MutualNet (arXiv 1909.12978): number of distinct networks in the trained width ranges."""
    # In ResNet-50 the inner channels are quarters of the outputs and change at the same widths.
    bases = set(channel_vector(architecture(family)))
    widths = _widths_between_changes(bases, least)
    assert len({channel_vector(architecture(family, width=w, slimmable=True)) for w in widths}) == count


def test_channel_vector_lists_convolution_channels() -> None:
    network = architecture("fd_mobilenet", nominal=32)
    assert channel_vector(network)[:5] == (32, 32, 64, 64, 128)
    assert len(channel_vector(network)) == 23


def _data() -> dict[str, Any]:
    return architecture("fd_mobilenet", nominal=32, classes=10).to_json()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["version"], FORMAT_VERSION + 1, r"version 2 is not supported by this Paretofit \(1 to 1\): update it"),
        (["version"], "1", "an object with an integer `version`"),
        (["family"], 3, "family must be str, not 3"),
        (["classes"], True, "classes must be int, not True"),
        (["nominal"], 0, "nominal must be 1 or more, not 0"),
        (["depth"], 3, "the architecture has an unknown field 'depth'; use family, nominal"),
        (["blocks"], {}, "blocks must be a list"),
        (["blocks"], [], "blocks must contain at least one block"),
        (["blocks", 2], "conv", r"blocks\[2\] must be an object with a `kind`, not 'conv'"),
        (["blocks", 2, "kind"], "warp", r"blocks\[2\].kind must be one of .*separable.*, not 'warp'"),
        (["blocks", 2, "kind"], ["conv"], r"blocks\[2\].kind must be one of"),
        (["blocks", 2, "stride"], 2.0, r"blocks\[2\].stride must be int, not 2.0"),
        (["blocks", 2, "stride"], 0, r"blocks\[2\] \(separable\): stride must be 1 or more, not 0"),
        (["blocks", 2, "kernel"], 4, r"blocks\[2\] \(separable\): kernel must be an odd number of pixels, not 4"),
        (["blocks", 0, "groups"], 2, r"blocks\[0\] \(conv\): groups must divide the channels 3 -> 32, and 2 does not"),
        (["blocks", 0, "norm"], 1, r"blocks\[0\].norm must be bool, not 1"),
        (["blocks", 2, "activation"], "tanh", r"blocks\[2\].activation must be one of relu, relu6, none, not 'tanh'"),
        (["blocks", 2, "dilation"], 2, r"blocks\[2\] has an unknown field 'dilation'; use in_channels"),
        (["blocks", 2, "in_channels"], 5, r"blocks\[2\].in_channels must be 64, not 5"),
        (["blocks", 12, "out_channels"], 11, "the last block has 11 outputs, but there are 10 classes"),
    ],
)
def test_errors_name_the_location(place: list[str | int], value: object, message: str) -> None:
    data: Any = _data()
    inner = data
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(ArchitectureError, match=message):
        Architecture.from_json(data)


@pytest.mark.parametrize("field", ["family", "blocks", "version"])
def test_missing_field_is_named(field: str) -> None:
    data = _data()
    del data[field]
    with pytest.raises(ArchitectureError, match=field):
        Architecture.from_json(data)


def test_missing_field_of_a_block_is_named() -> None:
    data = _data()
    del data["blocks"][3]["stride"]
    with pytest.raises(ArchitectureError, match=r"blocks\[3\] lacks the field 'stride'"):
        Architecture.from_json(data)


@settings(deadline=None)
@given(
    family=st.sampled_from(["fd_shufflenet", "shufflenet_v1"]),
    width=st.floats(0.05, 2),
    groups=st.sampled_from([1, 2, 3, 4, 8]),
    nominal=st.integers(4, 512),
)
def test_json_round_trip_of_grouped_networks(**options: Any) -> None:
    network = architecture(**options)
    assert Architecture.from_json(json.loads(json.dumps(network.to_json()))) == network


@settings(deadline=None)
@given(
    family=st.sampled_from(["scalenet18", "scalenet50", "scalenet50_light", "scalenet56"]),
    width=st.floats(0.05, 2),
    base_width=st.floats(0.1, 1),
    nominal=st.integers(4, 512),
)
def test_json_round_trip_of_aggregated_scales(**options: Any) -> None:
    network = architecture(**options)
    assert Architecture.from_json(json.loads(json.dumps(network.to_json()))) == network


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=4))
def test_arbitrary_values_are_parsed_or_rejected(value: Any) -> None:
    for path in (["family"], ["blocks"], ["blocks", 1], ["blocks", 1, "stride"], ["blocks", 1, "activation"]):
        data: Any = copy.deepcopy(_data())
        inner = data
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        try:
            network = Architecture.from_json(data)
        except ArchitectureError:
            continue
        assert network.to_json() == data


def test_blocks_with_mismatched_channels_are_rejected() -> None:
    stem = Conv(3, 8, 3, 1, 1, norm=True, activation="relu")
    with pytest.raises(ArchitectureError, match=r"blocks\[1\].in_channels must be 8, not 16"):
        Architecture("mine", 32, 3, 10, (stem, Classifier(16, 10)))


def test_layer_with_zero_channels_is_rejected() -> None:
    stem = Conv(3, 0, 3, 1, 1, norm=True, activation="relu")
    with pytest.raises(ArchitectureError, match=r"blocks\[0\] \(conv\): a layer needs at least 1 channel, not 0"):
        Architecture("mine", 32, 3, 10, (stem, Classifier(0, 10)))


def test_resizing_identity_shortcut_is_rejected() -> None:
    data = architecture("wrn_10_1", nominal=32).to_json()
    data["blocks"][2]["projection"] = False
    with pytest.raises(ArchitectureError, match=r"blocks\[2\] \(preactivation_basic\): .* needs `projection`"):
        Architecture.from_json(data)


def _block_data(family: str, index: int, **changed: Any) -> dict[str, Any]:
    data = architecture(family, nominal=32).to_json()
    data["blocks"][index] |= changed
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            _block_data("resnet18", 2, projection=False, stride=2),
            r"blocks\[2\] \(residual_basic\): .* needs `projection`",
        ),
        (_block_data("resnet50", 1, projection=False), r"blocks\[1\] \(residual_bottleneck\): .* needs `projection`"),
        (
            _block_data("mobilenet_v2", 3, stride=2, residual=True),
            r"blocks\[3\] \(inverted_residual\): .* be `residual`",
        ),
        (
            _block_data("vgg16", 2, kernel=4),
            r"blocks\[2\] \(max_pool\): the kernel of a pool must be odd or equal to the",
        ),
        (
            _block_data("vgg16", 2, stride=0),
            r"blocks\[2\] \(max_pool\): kernel and stride must be 1 or more, not 2 and 0",
        ),
        (
            _block_data("scalenet50", 1, mid_channels=32),
            r"blocks\[1\] \(scale_bottleneck\): aggregation.in_channels must be 32",
        ),
        (_block_data("scalenet50", 1, projection=False), r"blocks\[1\] \(scale_bottleneck\): .* needs `projection`"),
        (_block_data("scalenet20", 4, stride=0), r"blocks\[4\] \(scale_basic\): stride must be 1 or more, not 0"),
        (_block_data("shufflenet_v1", 2, stride=2), r"blocks\[2\] \(shuffle_unit\): 240 -> 240 channels: a unit keeps"),
        (
            _block_data("shufflenet_v1", 2, groups=7),
            r"blocks\[2\] \(shuffle_unit\): groups must divide the channels 60",
        ),
    ],
)
def test_invalid_blocks_are_rejected(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        Architecture.from_json(data)


def test_pool_must_keep_its_channels() -> None:
    with pytest.raises(ArchitectureError, match=r"blocks\[0\] \(max_pool\): out_channels must be 3"):
        Architecture("mine", 32, 3, 10, (MaxPool(3, 8, 2, 2), Classifier(8, 10)))


def test_duplicate_block_kind_is_rejected() -> None:
    class Other(Conv):
        pass

    with pytest.raises(ValueError, match=r"block kind 'conv' is already defined in paretofit\.models\.kinds\.basic"):
        register(Other)
