"""Starts of a search, and their records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.families.registry import architecture
from paretofit.search.contracts.spec import SearchSpec
from paretofit.search.contracts.start import Start, StartRecord
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.methods.mutualnet.params import MutualNetParams
from tests.search.methods.test_recipe import profile
from tests.search.starts import start_record, weights_record, write_weights

COLORS: dict[str, Any] = {"channels": 3, "mean": (0.2, 0.4, 0.6), "std": (0.1, 0.2, 0.3)}


def of_weights(**changes: Any) -> StartRecord:
    return StartRecord.of(weights_record(**changes).model_dump(mode="json"), "a" * 64)


def of_point(network: Architecture, **changes: Any) -> StartRecord:
    record = {
        "key": "w1-r32",
        "architecture": network.to_json(),
        "classes": [str(i) for i in range(network.classes)],
        "preprocessing": {"mean": [0.5] * network.channels, "std": [0.2] * network.channels},
    }
    return StartRecord.of(record | changes, "b" * 64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of weights, point and file, not none"),
        ({"weights": "a", "point": "b"}, "exactly one of weights, point and file, not weights and point"),
        ({"weights": "a", "point": "b", "file": "c"}, "not weights and point and file"),
        ({"weights": ""}, "at least 1 character"),
        ({"url": "https://x"}, "not permitted"),
    ],
)
def test_start_needs_exactly_one_reference(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Start.model_validate(fields)


@pytest.mark.parametrize("name", ["weights", "point", "file"])
def test_start_reference(name: str) -> None:
    assert Start.model_validate({name: "mine"}).reference == "mine"


def test_record_of_a_weights_file(tmp_path: Path) -> None:
    record = weights_record(**COLORS, nominal=224)
    file = write_weights(tmp_path / "w.safetensors", record)
    start = start_record(file)
    assert (start.kind, start.family, start.width, start.classes) == (
        "weights",
        "fd_mobilenet",
        0.25,
        record.class_names,
    )
    assert (start.mean, start.std, start.source, start.licence) == (
        record.mean,
        record.std,
        "a test",
        "CC0-1.0",
    )
    assert start.network == record.architecture()
    assert start.nominal is None
    # The digest of this file; the record has the digest of the original file before conversion.
    assert start.sha256 not in (record.sha256, "")
    described = start.provenance()
    assert described == {
        "kind": "weights",
        "family": "fd_mobilenet",
        "width": 0.25,
        "slimmable": False,
        "keep_last_channels": True,
        "groups": None,
        "source": "a test",
        "sha256": start.sha256,
        "licence": "CC0-1.0",
    }


def test_record_of_a_point() -> None:
    network = architecture("resnet18", base_width=0.25, nominal=32, classes=4)
    start = of_point(network)
    assert (start.kind, start.family, start.width, start.nominal) == (
        "point",
        "resnet18",
        None,
        32,
    )
    assert (start.classes, start.source) == (("0", "1", "2", "3"), "point w1-r32")
    assert start.licence == "that of its training images"
    started = of_point(network, provenance={"start": {"licence": "BSD-3-Clause"}})
    assert started.licence == "BSD-3-Clause"


@pytest.mark.parametrize(
    "record", [{}, {"architecture": {}}, {"kind": "seed", "key": "x"}, {"key": "x", "classes": []}]
)
def test_other_records_are_rejected(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="belongs to neither trained weights nor a point"):
        StartRecord.of(record, "c" * 64)


def test_normalization_of_gray_images_is_averaged() -> None:
    start = of_weights(**COLORS)
    assert start.normalization(3) == ((0.2, 0.4, 0.6), (0.1, 0.2, 0.3))
    (mean,), (std,) = start.normalization(1)
    assert mean == pytest.approx(0.4)
    assert std == pytest.approx(0.2)


def test_color_images_cannot_start_from_grayscale_weights() -> None:
    body = {"name": "s", "dataset_id": "d", "method": {"kind": "fd_mobilenet", "start": {"weights": "x"}}}
    message = "start: its weights are for images with 1 channel, but the dataset's have 3"
    with pytest.raises(ValueError, match=message):
        SearchSpec.model_validate(body).resolve(profile(3000, 64), of_weights())


def test_full_network_of_weights_accepts_any_nominal_size_classes_and_channels() -> None:
    start = of_weights(**COLORS, nominal=224, classes=None, class_names=None)
    assert start.full(1, 7, 32) == architecture("fd_mobilenet", base_width=0.25, nominal=32, classes=7, channels=1)
    keeping = of_weights(family="mobilenet_v2", width=0.5, keep_last_channels=True, **COLORS)
    full = keeping.full(3, 5, 64)
    assert full.blocks[-1].in_channels == 1280


def test_full_network_of_a_point_keeps_its_nominal_size() -> None:
    network = architecture("resnet18", base_width=0.25, nominal=32, classes=4)
    start = of_point(network)
    assert start.full(3, 4, 32) == network
    assert start.full(1, 9, 32) == architecture("resnet18", base_width=0.25, nominal=32, classes=9, channels=1)
    with pytest.raises(
        ValueError, match="nominal: 64 differs from that of the start's network: use 32, or leave it out"
    ):
        start.full(3, 4, 64)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (architecture("fd_mobilenet", base_width=0.25, nominal=64, classes=5), None),
        (architecture("fd_mobilenet", base_width=0.125, nominal=16, channels=1), None),
        (
            architecture("mobilenet_v1", base_width=0.25),
            "its family is fd_mobilenet, but the network's is mobilenet_v1",
        ),
        (
            architecture("fd_mobilenet", base_width=0.5),
            r"has \d+ channels in .* smaller width, .* of the start \(0.25\)",
        ),
    ],
)
def test_compatible_networks_accept_weights(target: Architecture, message: str | None) -> None:
    start = of_weights(**COLORS)
    if message is None:
        start.check(target)
        return
    with pytest.raises(ValueError, match=f"^start: .*{message}"):
        start.check(target)


def test_networks_with_other_depth_or_groups_are_rejected() -> None:
    shallow = Architecture.from_json(architecture("wrn_10_1").to_json() | {"family": "wrn_16_1"})
    with pytest.raises(ValueError, match=r"start: its wrn_16_1 has other layers .* use its depth and groups"):
        of_point(architecture("wrn_16_1")).check(shallow)
    grouped = of_weights(family="shufflenet_v1", width=1.0, groups=3, **COLORS)
    grouped.check(architecture("shufflenet_v1", width=1.0, groups=3, classes=7, channels=1))
    for width, groups in ((0.5, 3), (0.5, 8)):
        with pytest.raises(ValueError, match=r"^start: .* use the start's width and groups"):
            grouped.check(architecture("shufflenet_v1", width=width, groups=groups))


def test_nominal_size_must_match_the_point() -> None:
    start = of_point(architecture("resnet18", base_width=0.25, nominal=32))
    with pytest.raises(ValueError, match=r"nominal: 64 differs .* use 32"):
        start.check(architecture("resnet18", base_width=0.25, nominal=64))


def test_start_determines_family_and_widths() -> None:
    data = profile(3000, 64)
    start = Start(weights="x")
    weights = of_weights(width=0.6, **COLORS)
    resolved = FdMobileNetParams(start=start).resolved(data, weights)
    assert (resolved.families, resolved.widths, resolved.nominal) == (("fd_mobilenet",), (0.25, 0.5, 0.6), 64)
    shared = MutualNetParams(start=start).resolved(data, of_weights(width=0.5, **COLORS))
    assert (shared.family, shared.base_width, shared.sort_channels) == ("fd_mobilenet", 0.5, True)
    assert (shared.full_first, shared.lowering) == (0.25, 0.25)
    assert shared.polish == round(shared.epochs * (3000 // shared.batch_size) / 2)
    of_own_point = of_point(
        network := architecture("fd_mobilenet", slimmable=True, base_width=0.5, nominal=32, classes=10)
    )
    full = MutualNetParams(start=start).resolved(data, of_own_point)
    assert full.nominal == 32
    assert full.architecture(data) == network
    [width] = FdMobileNetParams(start=start).resolved(data, of_own_point).widths
    assert architecture("fd_mobilenet", width=width, nominal=32, classes=10) == network
    groups = of_weights(family="shufflenet_v1", width=0.5, groups=8, **COLORS)
    grouped = FdMobileNetParams(start=start).resolved(data, groups)
    # Narrower networks have different groups.
    assert (grouped.groups, grouped.widths) == ((8,), (0.5,))


@pytest.mark.parametrize("width", [0.25, 0.3, 0.35, 0.5, 0.6, 0.75, 1.0, 1.25])
@pytest.mark.parametrize("family", ["fd_mobilenet", "mobilenet_v1", "mobilenet_v2"])
def test_weights_of_any_width_can_be_a_start(family: str, width: float) -> None:
    weights = of_weights(family=family, width=width, **COLORS)
    resolved = FdMobileNetParams(start=Start(weights="x")).resolved(profile(3000, 64), weights)
    assert resolved.widths[-1] == width


@pytest.mark.parametrize(
    ("params", "start", "message"),
    [
        (FdMobileNetParams(start=Start(weights="x"), widths=(0.5,)), {}, "channels in .* smaller width"),
        (FdMobileNetParams(start=Start(weights="x"), families=("mobilenet_v1",)), {}, "its family is fd_mobilenet"),
        (MutualNetParams(start=Start(weights="x"), base_width=0.5), {}, "channels in .* smaller width"),
        (
            MutualNetParams(start=Start(weights="x"), effort="probe"),
            {},
            "effort: probe is not available for mutualnet: use tune",
        ),
    ],
)
def test_parameters_that_do_not_fit_the_start_are_rejected(params: Any, start: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        params.resolved(profile(3000, 64), of_weights(**COLORS, **start))


def test_probe_requires_trained_weights() -> None:
    with pytest.raises(ValidationError, match="effort: probe needs trained weights: give a start"):
        FdMobileNetParams(effort="probe")


def test_start_record_and_method_start_must_be_given_together() -> None:
    body = {"name": "x", "dataset_id": "d", "method": {"kind": "fd_mobilenet"}}
    data = profile(3000, 64)
    with pytest.raises(ValueError, match=r"start: its record and method\.start must be given together"):
        SearchSpec.model_validate(body).resolve(data, of_weights(**COLORS))
    body["method"] = {"kind": "fd_mobilenet", "start": {"weights": "x"}}
    with pytest.raises(ValueError, match=r"start: its record and method\.start must be given together"):
        SearchSpec.model_validate(body).resolve(data)
    spec = SearchSpec.model_validate(body).resolve(data, of_weights(**COLORS))
    assert (spec.dataset.mean, spec.dataset.std) == (COLORS["mean"], COLORS["std"])


def test_record_is_read_from_the_header_only(tmp_path: Path) -> None:
    file = write_weights(tmp_path / "w.safetensors", weights_record(classes=None, class_names=None))
    assert StartRecord.of(checkpoint.read_record(file), "d" * 64).classes is None
