"""Search space and validation of the parameters."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from paretofit.models.cost import cost
from paretofit.models.families.registry import architecture
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import Candidate
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams


def profile(side: int = 32, *, images: int = 10_000) -> DatasetProfile:
    return DatasetProfile(
        classes=tuple("0123456789"),
        channels=3,
        image_size=(side, side),
        images={"train": images, "selection": 10, "report": 10},
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        fingerprint="none",
    )


def candidates(params: FdMobileNetParams, data: DatasetProfile | None = None) -> list[Candidate]:
    """Candidates after missing parameters are resolved."""
    data = data or profile()
    return params.resolved(data, None).candidates(data)


def test_candidates_are_families_with_groups_by_widths_by_resolutions() -> None:
    params = FdMobileNetParams(groups=(1, 2, 3, 4, 8), widths=(0.25, 1.0))
    networks = candidates(params)
    assert len(networks) == (3 + 2 * 5) * 2 * 4
    assert len({candidate.key for candidate in networks}) == len(networks)
    [one] = [c for c in networks if c.key == "shufflenet_v1-g8-w0.25-r24"]
    assert one.config == {"family": "shufflenet_v1", "groups": 8, "width": 0.25, "resolution": 24}
    network = architecture("shufflenet_v1", width=0.25, groups=8, nominal=32, classes=10)
    assert one.cost == cost(network, (24, 24)).as_dict()
    assert params.resolved(profile(), None).network(profile(), one.config) == network


def test_published_networks_are_candidates() -> None:
    """Qin et al., table 3: MACs at 224 pixels; 10 instead of 1000 classes need 990 x 1024 fewer."""
    params = FdMobileNetParams.model_validate(FdMobileNetParams.presets["imagenet"])
    macs = {c.key: c.cost["macs"] for c in candidates(params, profile(224))}
    assert macs["fd_mobilenet-w1-r224"] == 144_489_728 - 990 * 1024
    assert macs["fd_mobilenet-w0.5-r224"] == 40_132_224 - 990 * 512


def test_widths_with_equal_channels_are_one_candidate() -> None:
    networks = candidates(FdMobileNetParams(families=("shufflenet_v1",), widths=(0.25, 0.251), resolutions=(32,)))
    assert [c.config["width"] for c in networks] == [0.25]


def test_candidates_are_listed_fast_enough_for_a_request() -> None:
    start = time.process_time()
    assert len(candidates(FdMobileNetParams(widths=(0.2, 0.3, 0.6, 0.9)), profile(224))) == 80
    assert time.process_time() - start < 1  # About 0.15 s on an idle machine.


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"families": ["fd_mobile"]}, "unknown family 'fd_mobile'"),
        ({"families": []}, "at least 1 item"),
        ({"widths": [0.01]}, "greater than or equal to 0.05"),
        ({"tuning": {"learning_rate": [0.1, 0.01]}}, "the range must be ascending, not 0.1 to 0.01"),
        ({"tuning": {"batch_size": [1, 2]}}, "not permitted"),
        ({"pruning": {"fractions": [1.0]}}, "less than 1"),
    ],
)
def test_invalid_values_are_rejected(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FdMobileNetParams.model_validate(params)


def test_unsupported_groups_error_lists_supported_groups() -> None:
    with pytest.raises(ValueError, match=r"^groups: 5 is not available for shufflenet_v1; choose from 1, 2, 3, 4, 8"):
        candidates(FdMobileNetParams(groups=(5,)))


@pytest.mark.parametrize("name", ["tiny", *FdMobileNetParams.presets])
def test_presets_are_valid(name: str) -> None:
    params = FdMobileNetParams.model_validate(FdMobileNetParams.presets.get(name, FdMobileNetParams.tiny))
    assert candidates(params, profile(224 if name == "imagenet" else 32))
