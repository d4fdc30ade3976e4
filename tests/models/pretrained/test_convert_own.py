"""Conversion of files that Paretofit wrote: weights files and checkpoints of points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from paretofit.models import checkpoint
from paretofit.models.build import Network, build
from paretofit.models.families.registry import architecture
from paretofit.models.pretrained.convert import convert, convert_tensors
from paretofit.models.pretrained.record import PretrainedError
from tests.models.pretrained.conversion import DIGEST, assert_same, load


def test_weights_file_round_trip(small: dict[str, Tensor], tmp_path: Path, target: Path) -> None:
    first = convert_tensors(small, tmp_path / "first", sha256=DIGEST, source_name="somewhere", licence="MIT")
    assert convert(tmp_path / "first", target) == first
    assert_same(target, checkpoint.read(tmp_path / "first")[0])
    named = convert(tmp_path / "first", target, class_names=list("abcde"), licence="CC0-1.0")
    assert (named.class_names, named.licence, named.source) == (tuple("abcde"), "CC0-1.0", "somewhere")


POINTS: dict[str, dict[str, Any]] = {
    "fixed": {"family": "fd_mobilenet", "width": 0.3, "nominal": 32, "channels": 1},
    "slimmable full": {"family": "mobilenet_v2", "slimmable": True, "base_width": 0.35, "nominal": 64},
    "slimmable started": {
        "family": "mobilenet_v2",
        "slimmable": True,
        "base_width": 0.35,
        "keep_last_channels": True,
        "nominal": 64,
    },
    "slimmable slice": {"family": "mobilenet_v1", "slimmable": True, "base_width": 0.5, "width": 0.6, "nominal": 32},
    "small resnet": {"family": "resnet18", "base_width": 0.25, "nominal": 32},
    "shufflenet": {"family": "shufflenet_v1", "width": 0.25, "groups": 4, "nominal": 32},
    "wide resnet": {"family": "wrn_10_1", "nominal": 32},
}


@pytest.mark.parametrize("name", POINTS)
def test_point_checkpoint_is_converted(name: str, tmp_path: Path, target: Path) -> None:
    network = build(architecture(classes=3, **POINTS[name]))
    record = _point(network)
    checkpoint.save(tmp_path / "point", network, record)
    converted = convert(tmp_path / "point", target)
    channels = network.architecture.channels
    assert converted.architecture() == network.architecture
    assert (converted.class_names, converted.mean, converted.std) == (
        ("a", "b", "c"),
        (0.3,) * channels,
        (0.2,) * channels,
    )
    assert (converted.layout, converted.licence) == ("paretofit", "CC-BY-4.0")
    x = torch.randn(2, channels, 32, 32)
    with torch.no_grad():
        assert torch.equal(load(target, converted)(x), network.eval()(x))


def _point(network: Network) -> dict[str, Any]:
    channels = network.architecture.channels
    return {
        "architecture": network.architecture.to_json(),
        "classes": ["a", "b", "c"],
        "preprocessing": {"mean": [0.3] * channels, "std": [0.2] * channels},
        "provenance": {"start": {"licence": "CC-BY-4.0"}},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": {"mean": ["a", "b", "c"], "std": [1, 1, 1]}},
        {"preprocessing": {"mean": 3, "std": {}}},
        {"preprocessing": []},
        {"provenance": 1, "preprocessing": None},
        {"classes": 7},
        {"classes": ["a"]},
    ],
)
def test_points_with_incomplete_metadata_are_rejected(changes: dict[str, Any], tmp_path: Path, target: Path) -> None:
    network = build(architecture("fd_mobilenet", base_width=0.125, nominal=32, classes=3))
    checkpoint.save(tmp_path / "point", network, _point(network) | changes)
    with pytest.raises(PretrainedError, match=r"mean|std|class"):
        convert(tmp_path / "point", target)


def test_point_trained_from_scratch_has_the_license_of_its_images(tmp_path: Path, target: Path) -> None:
    network = build(architecture("fd_mobilenet", base_width=0.125, nominal=32, classes=3))
    checkpoint.save(tmp_path / "point", network, _point(network) | {"provenance": {"search": "s"}})
    assert convert(tmp_path / "point", target).licence == "that of its training images"


def test_points_without_a_single_width_are_rejected(tmp_path: Path, target: Path) -> None:
    network = build(architecture("wrn_10_1", slimmable=True, width=(1.0, 0.5, 0.25), nominal=32, classes=3))
    checkpoint.save(tmp_path / "point", network, _point(network))
    with pytest.raises(PretrainedError, match="this wrn_10_1 does not have a single width"):
        convert(tmp_path / "point", target)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"kind": "weights", "family": "resnet18"}, "is not supported by this Paretofit: width: Field required"),
        ({"architecture": {"version": 1}}, "does not describe a network"),
        ({"something": "else"}, "does not describe a network"),
    ],
)
def test_damaged_records_are_rejected(record: dict[str, Any], message: str, tmp_path: Path, target: Path) -> None:
    checkpoint.write(tmp_path / "odd", {"blocks.0.conv.weight": torch.zeros(1)}, record)
    with pytest.raises(PretrainedError, match=message):
        convert(tmp_path / "odd", target)


def test_tensors_that_mismatch_the_record_are_rejected(small: dict[str, Tensor], tmp_path: Path, target: Path) -> None:
    record = convert_tensors(small, tmp_path / "first", sha256=DIGEST, source_name="somewhere")
    tensors, _ = checkpoint.read(tmp_path / "first")
    del tensors["blocks.3.expand.norm.bias"]
    checkpoint.write(tmp_path / "second", tensors, record.model_dump(mode="json"))
    with pytest.raises(PretrainedError, match=r"do not match the record's network: blocks\.3\.expand\.norm\.bias"):
        convert(tmp_path / "second", target)
