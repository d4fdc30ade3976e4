"""Published training recipes."""

from __future__ import annotations

from typing import Any

import pytest

from paretofit.search.data.augmentation import Augmentation
from paretofit.search.methods.mutualnet.params import MutualNetParams, SlimmableParams, UsNetParams
from tests.search.methods.mutualnet.test_params import profile

COLORS = {"kind": "resized_crop", "colour_jitter": 0.4, "pca_lighting": 0.1, "flip": True}
MOBILE = {"epochs": 250, "batch_size": 1024, "learning_rate": 0.5, "weight_decay": 1e-4, "decay": "dense"}
RESNET = {"epochs": 120, "batch_size": 512, "learning_rate": 0.2, "weight_decay": 1e-4, "decay": "dense"}
CIFAR = {"epochs": 200, "batch_size": 128, "learning_rate": 0.1, "weight_decay": 5e-4, "decay": "all"}
IMAGENET_SIDES, CIFAR_SIDES = (224, 192, 160, 128), (32, 28, 24, 20)
PLAIN = {"momentum": 0.9, "random_widths": 2, "label_smoothing": 0.0, "ema_decay": 0.0, "warmup_epochs": 0.0}


def resolved(params: SlimmableParams, side: int) -> dict[str, Any]:
    """Resolved parameters for square images of `side` pixels."""
    data = profile((side, side), images=1_281_167)
    params = params.resolved(data, None)
    fields = {name: getattr(params, name) for name in (*MOBILE, *PLAIN, "family", "base_width")}
    widths = (params.widths.min, params.widths.max, params.widths.step)
    return fields | {"widths": widths, "sides": params.trained_sides(data), "augmentation": params.augment(data)}


@pytest.mark.parametrize(
    ("name", "family", "recipe", "least", "scale"),
    [
        ("imagenet", "mobilenet_v1", MOBILE, 0.25, 0.25),
        ("imagenet_mobilenet_v2", "mobilenet_v2", MOBILE, 0.7, 0.25),
        ("imagenet_resnet50", "resnet50", RESNET, 0.9, 0.08),
    ],
)
def test_mutualnet_on_imagenet(name: str, family: str, recipe: dict[str, Any], least: float, scale: float) -> None:
    assert resolved(MutualNetParams.model_validate(MutualNetParams.presets[name]), 224) == recipe | PLAIN | {
        "family": family,
        "base_width": 1.0,
        "widths": (least, 1.0, 0.05),
        "sides": IMAGENET_SIDES,
        "augmentation": Augmentation.model_validate(COLORS | {"minimum_scale": scale}),
    }


@pytest.mark.parametrize(("name", "family", "least"), [("cifar", "wrn_28_10", 0.9), ("cifar_vgg16", "vgg16", 0.25)])
def test_mutualnet_on_cifar(name: str, family: str, least: float) -> None:
    assert resolved(MutualNetParams.model_validate(MutualNetParams.presets[name]), 32) == CIFAR | PLAIN | {
        "family": family,
        "base_width": 1.0,
        "widths": (least, 1.0, 0.05),
        "sides": CIFAR_SIDES,
        "augmentation": Augmentation(kind="pad_crop", padding=4, padding_mode="reflect", flip=True),
    }


@pytest.mark.parametrize(("name", "least"), [("imagenet", 0.05), ("imagenet_mobilenet_v2", 0.35), ("cifar", 0.9)])
def test_us_net_uses_the_mutualnet_recipe_with_wider_ranges(name: str, least: float) -> None:
    side = 32 if name == "cifar" else 224
    mutualnet = resolved(MutualNetParams.model_validate(MutualNetParams.presets[name]), side)
    us_net = resolved(UsNetParams.model_validate(UsNetParams.presets[name]), side)
    assert us_net == mutualnet | {"widths": (least, 1.0, 0.05), "sides": (side,)}


def test_small_preset() -> None:
    small = MutualNetParams.model_validate(MutualNetParams.presets["small"])
    params = resolved(small, 28)
    assert params["augmentation"] == Augmentation(kind="pad_crop", padding=3, padding_mode="reflect")
    assert (params["warmup_epochs"], params["label_smoothing"], params["ema_decay"]) == (3, 0.1, 0.995)
    assert (params["epochs"], params["batch_size"], params["learning_rate"]) == (60, 64, 0.1)


def test_demo_preset_omits_features_that_need_long_training() -> None:
    demo = MutualNetParams.model_validate(MutualNetParams.presets["demo"]).resolved(profile(), None)
    assert demo.augment(profile()) == Augmentation(kind="none")
    assert (demo.epochs, demo.random_widths, demo.calibration_images) == (3, 1, 1024)
    assert (demo.batch_size, demo.learning_rate, demo.weight_decay, demo.family) == (64, 0.15, 5e-4, "fd_mobilenet")
    assert (demo.ema_decay, demo.label_smoothing, demo.warmup_epochs, demo.accumulation) == (0.0, 0.0, 0.3, 1)
    assert (demo.clip_norm, demo.backbone_rate, demo.full_first, demo.lowering, demo.polish) == (5.0, 1.0, 0.0, 0.0, 0)
