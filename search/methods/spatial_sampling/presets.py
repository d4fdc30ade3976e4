"""Presets: the recipe of the paper, and ours for small datasets. Plain data, torch-free.

Source: Xie et al. (arXiv 2003.08866).
"""

from __future__ import annotations

from typing import Any, Final

from paretofit.search.training.recipe import AS_PUBLISHED, QUICK

Recipe = dict[str, Any]

TINY: Final[Recipe] = {
    **QUICK,
    "family": "wrn_10_1",
    "base_width": 0.5,
    "resolutions": [12],
    "densities": [0.3, 0.7],
    "shares": [0.15],
    "trials": 2,
    "fill": "zero",
    "epochs": 2,
    "batch_size": 32,
    "calibration_images": 256,
    "augmentation": {"kind": "none"},
}

SMALL: Final[Recipe] = {
    "family": "wrn_16_1",
    "densities": [0.2, 0.7],
    "trials": 4,
    "fill": "zero",
    "epochs": 40,
    "batch_size": 64,
    "learning_rate": 0.1,
    "warmup_epochs": 2,
    "label_smoothing": 0.1,
    "baselines": ["uniform", "deterministic"],
}
"""Ours, for some thousand to some ten thousand images."""

CIFAR: Final[Recipe] = {
    **AS_PUBLISHED,
    "family": "wrn_28_4",
    "densities": [0.2, 0.7],
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "decay": "all",
    "augmentation": {"kind": "pad_crop", "padding": 4, "padding_mode": "zeros"},
}
IMAGENET: Final[Recipe] = {
    **AS_PUBLISHED,
    "family": "resnet34",
    "nominal": 224,
    "loss": "gamma",
    "gammas": [0.01, 0.015],
    "trials": 2,
    "epochs": 100,
    "batch_size": 256,
    "learning_rate": 0.1,
    "schedule": "thirds",
    "weight_decay": 1e-4,
    "augmentation": {"kind": "resized_crop", "minimum_scale": 0.08},
}

PRESETS: Final[dict[str, Recipe]] = {"small": SMALL, "cifar": CIFAR, "imagenet": IMAGENET}
