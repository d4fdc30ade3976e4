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
from paretofit.search.methods.mutualnet.options import Baseline, Widths
from paretofit.search.methods.mutualnet.params import MutualNetParams, SlimmableParams, UsNetParams
from paretofit.search.training.params import input_size


def profile(size: tuple[int, int] = (32, 32), *, images: int = 10_000) -> DatasetProfile:
    return DatasetProfile(
        classes=tuple("0123456789"),
        channels=1,
        image_size=size,
        images={"train": images, "selection": 10, "report": 10},
        mean=(0.5,),
        std=(0.5,),
        fingerprint="none",
    )


def candidates(params: SlimmableParams, data: DatasetProfile | None = None) -> list[Candidate]:
    """Candidates after missing parameters are resolved."""
    data = data or profile()
    return params.resolved(data, None).candidates(data)


def test_default_resolutions_match_the_paper() -> None:
    assert MutualNetParams().sides(profile((32, 32))) == (32, 28, 24, 20)
    assert MutualNetParams().sides(profile((224, 224))) == (224, 192, 160, 128)
    assert MutualNetParams().sides(profile((64, 96))) == (64, 56, 44, 36)
    assert input_size(profile((64, 96)), 56) == (56, 84)


def test_width_grid() -> None:
    assert Widths().grid() == [0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]
    assert Widths(min=0.7, step=0.2).grid() == [0.7, 0.9, 1.0]
    assert Widths(min=1.0).grid() == [1.0]


def test_candidates_are_all_widths_and_resolutions_with_costs() -> None:
    all_candidates = candidates(MutualNetParams())
    assert len(all_candidates) == 64
    assert len({candidate.key for candidate in all_candidates}) == 64
    [half] = [c for c in all_candidates if c.config == {"width": 0.5, "resolution": 24}]
    network = architecture(
        "fd_mobilenet", width=0.5, slimmable=True, base_width=0.25, nominal=32, classes=10, channels=1
    )
    assert half.cost == cost(network, (24, 24)).as_dict()
    assert half.input_size == (24, 24)


def test_widths_with_equal_channels_are_one_candidate() -> None:
    params = MutualNetParams(family="wrn_16_1", base_width=0.25, widths=Widths(min=0.5, step=0.05)).resolved(
        profile(), None
    )
    widths = [float(c.config["width"]) for c in params.candidates(profile())]
    networks = {params.architecture(profile(), width) for width in params.widths.grid()}
    assert len(networks) < len(params.widths.grid())
    assert len(widths) == 4 * len(networks)
    assert 1.0 in widths


def test_candidates_are_listed_fast_enough_for_a_request() -> None:
    best = min(_seconds(MutualNetParams(base_width=0.25 + 0.01 * i)) for i in range(3))
    retry = _seconds(MutualNetParams(base_width=0.25))
    assert best < 0.25  # About 0.03 s on an idle machine.
    assert retry < 0.05


def _seconds(params: MutualNetParams) -> float:
    start = time.process_time()
    assert len(candidates(params)) == 64
    return time.process_time() - start


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"family": "resnet_9000"}, "unknown family 'resnet_9000'"),
        ({"widths": {"min": 0.8, "max": 0.5}}, "widths.min 0.8 is above widths.max 0.5"),
        ({"resolutions": [32, 4]}, "from 8 to 1024"),
        ({"resolutions": []}, "at least 1 item"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"learning_rate": "fast"}, "valid number"),
        ({"temperature": 2}, "not permitted"),
        ({"epochs": 2, "warmup_epochs": 2}, "warmup_epochs: 2 must be less than epochs, 2"),
        ({"batch_size": 8, "accumulation": 5}, "accumulation: 5 parts of 8 images are too small .* at most 4"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"ema_decay": 1.0}, "less than 1"),
        ({"precision": "int8"}, "'auto', 'float32', 'bfloat16' or 'float16'"),
        ({"baselines": [{"width": 0.5}]}, "resolution"),
    ],
)
def test_invalid_values_are_rejected(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MutualNetParams.model_validate(params)


def test_dataset_errors_name_the_field_and_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"^resolutions: 40 exceeds the dataset's image size 32; use at most 32"):
        candidates(MutualNetParams(resolutions=(40, 32)))
    with pytest.raises(ValueError, match=r"^batch_size: 64 exceeds the dataset's 50 training images; use at most"):
        candidates(MutualNetParams(batch_size=64), profile(images=50))


def test_baselines_above_the_image_size_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"^baselines: resolution 40 exceeds the dataset's image size 32; use at most"):
        candidates(MutualNetParams(baselines=(Baseline(resolution=40),)))


def test_boosted_network_is_the_full_network() -> None:
    [candidate] = candidates(MutualNetParams(goal="boost", widths=Widths(min=0.9)))
    assert candidate.config == {"width": 1.0, "resolution": 32}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in (MutualNetParams, UsNetParams) for name in (*kind.presets, "tiny")],
)
def test_presets_are_valid(kind: type[SlimmableParams], name: str) -> None:
    params = kind.model_validate(kind.presets.get(name, kind.tiny))
    assert candidates(params, profile((params.nominal or 32,) * 2))


@pytest.mark.parametrize("kind", [MutualNetParams, UsNetParams])
def test_every_field_is_documented(kind: type[SlimmableParams]) -> None:
    for name, field in kind.model_fields.items():
        assert field.description or name == "kind", name


def test_boost_has_narrow_default_width_range() -> None:
    assert MutualNetParams.model_validate({"goal": "boost"}).widths == Widths(min=0.9)
    wide = MutualNetParams.model_validate({"goal": "boost", "widths": {"max": 1.1}})
    assert wide.widths == Widths(min=0.9, max=1.1)
    assert MutualNetParams.model_validate(wide.model_dump()) == wide
    explicit = MutualNetParams.model_validate({"goal": "boost", "widths": {"min": 0.5}, "granularity": "stage"})
    assert explicit.widths.min == 0.5
