"""The record of a weights file, and the network that it describes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from paretofit.models.families.registry import architecture
from paretofit.models.pretrained.record import MAX_DROPPED, PretrainedError, WeightsRecord, licence_of_point

FIELDS: dict[str, Any] = {
    "family": "mobilenet_v2",
    "width": 1.0,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "layout": "torchvision",
    "source": "mobilenet_v2.safetensors",
    "sha256": "0" * 64,
    "licence": "BSD-3-Clause",
}


def record(**fields: Any) -> WeightsRecord:
    return WeightsRecord.model_validate(FIELDS | fields)


def test_round_trip_through_json() -> None:
    weights = record(classes=2, class_names=("cat", "dog"), dropped=("head.weight",), notes=("a note",))
    assert WeightsRecord.model_validate(weights.model_dump(mode="json")) == weights


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 0},
        {"width": float("nan")},
        {"width": 17},
        {"mean": (0.5,)},
        {"std": (0.2, 0.0, 0.2)},
        {"std": (0.2, float("inf"), 0.2)},
        {"sha256": "00"},
        {"classes": 3, "class_names": ("cat", "dog")},
        {"class_names": ("cat",)},
        {"channels": 1},
        {"version": 2},
        {"kind": "point"},
        {"unknown": 1},
        # Texts and lists that an untrusted file could make arbitrarily large.
        {"family": "x" * 101},
        {"layout": "x" * 101},
        {"source": "x" * 501},
        {"licence": "x" * 501},
        {"notes": ("x" * 1001,)},
        {"notes": ("x",) * 21},
        {"classes": 2, "class_names": ("x" * 256, "y")},
        {"dropped": (1,)},
    ],
)
def test_inconsistent_fields_are_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        record(**fields)


@pytest.mark.parametrize(("classes", "outputs"), [(None, 1000), (1001, 1001), (7, 7)])
def test_architecture_has_the_classes_of_the_file(classes: int | None, outputs: int) -> None:
    network = record(classes=classes, nominal=64).architecture()
    assert (network.classes, network.nominal, network.channels) == (outputs, 64, 3)


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.0, 1.4])
@pytest.mark.parametrize("family", ["mobilenet_v2", "resnet18", "resnet34", "resnet50", "resnext50_32x4d", "vgg16"])
def test_slimmable_form_equals_the_published_network(family: str, width: float) -> None:
    weights = record(family=family, width=width)
    assert weights.slimmable_architecture() == weights.architecture() == architecture(family, width=width)


@pytest.mark.parametrize("family", ["resnet101", "resnet152", "vgg16", "mobilenet_v1", "fd_mobilenet"])
def test_slimmable_form_is_available_at_full_width(family: str) -> None:
    assert record(family=family).slimmable_architecture() == architecture(family)


@pytest.mark.parametrize("family", ["mobilenet_v1", "fd_mobilenet"])
def test_truncated_channels_have_no_slimmable_form(family: str) -> None:
    """0.35 x 32 is 11: the published widths are quarters, where both roundings agree."""
    for width in (0.25, 0.5, 0.75, 1.0, 1.25):
        weights = record(family=family, width=width)
        assert weights.slimmable_architecture() == weights.architecture()
    with pytest.raises(PretrainedError, match=f"{family} x 0.35 has channels that are not multiples of 8"):
        record(family=family, width=0.35).slimmable_architecture()
    rounded = record(family=family, width=0.35, slimmable=True)
    assert rounded.slimmable_architecture() == rounded.architecture()


def test_last_channels_may_be_narrow() -> None:
    """As in a point of a search without a start, whose last convolution is narrowed with the rest."""
    assert record(width=0.5).architecture().blocks[-1].in_channels == 1280
    assert record(width=0.5, keep_last_channels=False).architecture().blocks[-1].in_channels == 640


def test_families_without_slices_have_no_slimmable_form() -> None:
    with pytest.raises(PretrainedError, match="shufflenet_v1 is not slimmable"):
        record(family="shufflenet_v1", groups=3).slimmable_architecture()


def test_unknown_family_is_rejected() -> None:
    with pytest.raises(PretrainedError, match="unknown family 'lenet'"):
        record(family="lenet").architecture()


def test_dropped_tensors_are_listed_up_to_a_limit_and_counted() -> None:
    weights = record(dropped=["x" * 1000, *(f"layer.{number}" for number in range(24))])
    assert (len(weights.dropped), weights.dropped_count) == (MAX_DROPPED, 25)
    assert weights.dropped[:2] == ("x" * 300, "layer.0")
    assert WeightsRecord.model_validate(weights.model_dump(mode="json")) == weights


@pytest.mark.parametrize("provenance", [None, 1, {}, {"start": None}, {"start": {"licence": 7}}, {"licence": "MIT"}])
def test_point_without_start_has_the_license_of_its_images(provenance: Any) -> None:
    assert licence_of_point({"provenance": provenance}) == "that of its training images"


def test_point_has_the_license_of_its_starting_weights() -> None:
    assert licence_of_point({"provenance": {"start": {"licence": "CC-BY-4.0"}}}) == "CC-BY-4.0"
