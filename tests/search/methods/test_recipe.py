"""Default training recipes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.data.augmentation import Augmentation
from paretofit.search.methods.mutualnet.params import MutualNetParams, UsNetParams
from paretofit.search.registry import methods
from paretofit.search.training import recipe
from paretofit.search.training.params import TrainingParams
from paretofit.search.trials import plan

CHOSEN = (
    "epochs",
    "batch_size",
    "learning_rate",
    "warmup_epochs",
    "label_smoothing",
    "ema_decay",
    "clip_norm",
    "backbone_rate",
    "effort",
    "augmentation",
)
KINDS = ("mutualnet", "us_net", "fd_mobilenet", "shape_adaptor", "spatial_sampling", "scalenet")


def profile(images: int, side: int, channels: int = 3, classes: int = 10) -> DatasetProfile:
    return DatasetProfile(
        classes=tuple(map(str, range(classes))),
        channels=channels,
        image_size=(side, side),
        images={"train": images, "selection": 100, "report": 100},
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        fingerprint="none",
    )


CLOTHING = profile(3068, 128)
PHOTO = Augmentation(kind="resized_crop", minimum_scale=0.35)
SCRATCH: dict[str, Any] = {"label_smoothing": 0.1, "ema_decay": 0.0, "clip_norm": 5.0, "backbone_rate": 1.0}
STARTED: dict[str, Any] = {"label_smoothing": 0.1, "ema_decay": 0.99, "clip_norm": 5.0, "backbone_rate": 0.1}


def padded(by: int) -> Augmentation:
    return Augmentation(kind="pad_crop", padding=by, padding_mode="reflect")


@pytest.mark.parametrize(
    ("dataset", "started", "values"),
    [
        pytest.param(
            CLOTHING,
            False,
            SCRATCH
            | {"epochs": 40, "batch_size": 64, "learning_rate": 0.1, "effort": "tune"}
            | {"warmup_epochs": round(100 / 47, 3), "augmentation": PHOTO},
            id="photos",
        ),
        pytest.param(
            CLOTHING,
            True,
            STARTED
            | {"epochs": 10, "batch_size": 32, "learning_rate": 0.05, "effort": "tune"}
            | {"warmup_epochs": 0.5, "augmentation": PHOTO.model_copy(update={"colour_jitter": 0.2})},
            id="photos, from weights",
        ),
        pytest.param(
            profile(60_000, 28, channels=1),
            False,
            SCRATCH
            | {"epochs": 9, "batch_size": 64, "learning_rate": 0.1, "effort": "tune"}
            | {"warmup_epochs": 1.8, "augmentation": padded(0)},
            id="many small gray images",
        ),
        pytest.param(
            profile(60_000, 32),
            True,
            STARTED
            | {"epochs": 5, "batch_size": 64, "learning_rate": 0.1, "effort": "tune"}
            | {"warmup_epochs": 0.25, "augmentation": padded(4)},
            id="many small images, from weights: 5,000 steps",
        ),
        pytest.param(
            profile(100, 224, channels=1),
            False,
            SCRATCH
            | {"epochs": 200, "batch_size": 25, "learning_rate": 0.0391, "effort": "tune"}
            | {"warmup_epochs": 25.0, "augmentation": padded(28)},
            id="few large gray images",
        ),
        pytest.param(
            profile(199, 64),
            True,
            STARTED
            | {"epochs": 100, "batch_size": 32, "learning_rate": 0.05, "effort": "probe"}
            | {"warmup_epochs": 5.0, "augmentation": padded(8)},
            id="under 20 images per class, from weights: 600 steps",
        ),
        pytest.param(
            profile(200, 64),
            True,
            STARTED
            | {"epochs": 100, "batch_size": 32, "learning_rate": 0.05, "effort": "tune"}
            | {"warmup_epochs": 5.0, "augmentation": padded(8)},
            id="20 images per class, from weights",
        ),
    ],
)
def test_default_recipe(dataset: DatasetProfile, *, started: bool, values: dict[str, Any]) -> None:
    assert recipe.training(dataset, {}, started=started) == values
    assert tuple(values.keys() - set(CHOSEN)) == ()


def test_chosen_parameters_are_optional() -> None:
    assert set(recipe.training(CLOTHING, {}, started=False)) == set(CHOSEN)
    assert all(TrainingParams.model_fields[name].default is None for name in CHOSEN)


def test_explicit_values_are_kept_and_influence_defaults() -> None:
    explicit: dict[str, Any] = {
        "epochs": 7,
        "batch_size": 128,
        "learning_rate": 0.3,
        "warmup_epochs": 0.0,
        "label_smoothing": 0.0,
        "ema_decay": 0.5,
        "clip_norm": 0.0,
        "backbone_rate": 0.0,
        "effort": "tune",
        "augmentation": Augmentation(kind="none"),
    }
    for started in (False, True):
        assert recipe.training(CLOTHING, explicit, started=started) == explicit
    larger = recipe.training(CLOTHING, {"batch_size": 256}, started=False)
    assert (larger["learning_rate"], larger["epochs"]) == (0.4, 40)
    longer = recipe.training(CLOTHING, {"epochs": 100}, started=True)
    assert longer["warmup_epochs"] == 5.0
    short = recipe.training(CLOTHING, {"epochs": 1}, started=False)
    assert short["warmup_epochs"] == 0.2


@pytest.mark.parametrize(("images", "epochs"), [(3000, 40), (12_000, 20), (60_000, 9), (10**7, 8), (10, 200)])
def test_default_epochs_depend_on_the_number_of_images(images: int, epochs: int) -> None:
    assert recipe.epochs(images, 64, started=False) == epochs


@pytest.mark.parametrize(("epochs", "padding"), [(1, 0), (5, 0), (10, 1), (20, 2), (40, 4), (200, 4)])
def test_small_images_are_padded_less_in_short_trainings(epochs: int, padding: int) -> None:
    chosen = recipe.training(profile(10_000, 32), {"epochs": epochs}, started=False)
    assert chosen["augmentation"] == padded(padding)


PUBLISHED = {
    **{
        (kind, name): {"full_first": 0, "lowering": 0, "polish": 0, "sort_channels": False}
        for kind in KINDS[:2]
        for name in MutualNetParams.presets
        if name not in {"small", "demo"}
    },
    **{("fd_mobilenet", name): {} for name in ("demo", "imagenet")},
    **{("shape_adaptor", name): {} for name in ("cifar", "imagenet", "compression", "transfer")},
    **{("spatial_sampling", name): {} for name in ("cifar", "imagenet")},
    **{("scalenet", name): {} for name in ("cifar", "imagenet")},
}


@pytest.mark.parametrize(("kind", "name"), PUBLISHED)
def test_published_recipes_are_not_modified(kind: str, name: str) -> None:
    """Parameters missing from a published preset get no tuned defaults, except those that define the networks."""
    options = methods()[kind].params.presets[name]
    resolved = methods()[kind].params.model_validate(options).resolved(profile(50_000, 32), None)
    expected = {
        "warmup_epochs": 0,
        "label_smoothing": 0,
        "ema_decay": 0,
        "clip_norm": 0,
        "backbone_rate": 1,
        "effort": "tune",
    } | PUBLISHED[kind, name]
    assert {field: getattr(resolved, field) for field in expected} == expected
    unresolved = type(resolved).model_validate(options)
    assert all(getattr(resolved, field) == getattr(unresolved, field) for field in options)


profiles = st.builds(
    profile,
    images=st.integers(40, 200_000),
    side=st.integers(16, 256),
    channels=st.sampled_from([1, 3]),
    classes=st.integers(2, 30),
)
recipes = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 300),
        "batch_size": st.integers(2, 512),
        "learning_rate": st.floats(1e-4, 1),
        "label_smoothing": st.floats(0, 0.5),
        "ema_decay": st.floats(0, 0.999),
        "clip_norm": st.floats(0, 10),
        "backbone_rate": st.floats(0, 1),
        "augmentation": st.just(Augmentation(kind="none").model_dump()),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(KINDS), dataset=profiles, options=recipes)
def test_resolution_is_idempotent(kind: str, dataset: DatasetProfile, options: dict[str, Any]) -> None:
    body = {"name": "x", "dataset_id": "d", "method": {"kind": kind, **options}}
    spec = SearchSpec.model_validate(body).resolve(dataset)
    assert all(value is not None for name, value in dict(spec.method).items() if name in CHOSEN)
    stored = json.loads(spec.model_dump_json())
    reloaded = ResolvedSpec.model_validate(stored)
    assert reloaded == spec
    assert reloaded.method.resolved(dataset, None) == spec.method
    for name, value in (
        type(spec.method).model_validate({"kind": kind, **options}).model_dump(exclude_unset=True).items()
    ):
        assert spec.method.model_dump()[name] == value


NEW_FIELDS = (
    "start",
    "backbone_rate",
    "clip_norm",
    "effort",
    "keep_last_channels",
    "sort_channels",
    "full_first",
    "lowering",
    "polish",
    "polish_networks",
)
"""Fields that are missing from specifications of earlier versions."""


@pytest.mark.parametrize("kind", KINDS)
def test_search_of_an_earlier_version_keeps_its_recipe(kind: str) -> None:
    body = {
        "name": "x",
        "dataset_id": "d",
        "method": {"kind": kind, **methods()[kind].params.tiny, "learning_rate": 0.15},
    }
    stored = json.loads(SearchSpec.model_validate(body).resolve(profile(3000, 128)).model_dump_json())
    del stored["start"]
    method = {name: value for name, value in stored["method"].items() if name not in NEW_FIELDS}
    stored["method"] = method | {"ema_decay": None, "augmentation": None, "warmup_epochs": 0.0, "label_smoothing": 0.0}
    spec = ResolvedSpec.model_validate(stored)
    params = spec.params(TrainingParams)
    assert (params.ema_decay, params.clip_norm, params.backbone_rate, params.effort) == (0.0, 0.0, 1.0, "tune")
    assert (params.epochs, params.learning_rate) == (method["epochs"], 0.15)
    # For any images, because random-area crops were added later.
    assert params.augment(spec.dataset) == padded(16)
    if isinstance(params, MutualNetParams | UsNetParams):
        assert (params.full_first, params.lowering, params.polish) == (0.0, 0.0, 0)
        assert (params.sort_channels, params.keep_last_channels) == (False, False)
    assert spec.start is None
    assert spec.candidates()
    assert plan(spec, []).trials
