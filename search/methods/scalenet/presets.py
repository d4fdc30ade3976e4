"""Presets: the recipe of the paper, and ours for small datasets. Plain data, torch-free.

Source: Li et al., ScaleNet (arXiv 1904.09460), section 4.1.
"""

from __future__ import annotations

from typing import Any, Final

from paretofit.search.training.recipe import AS_PUBLISHED, QUICK

Recipe = dict[str, Any]

TINY: Final[Recipe] = {
    **QUICK,
    "family": "scalenet20",
    "base_width": 0.25,
    "resolutions": [12],
    "seed_epochs": 1,
    "epochs": 2,
    "batch_size": 32,
    "calibration_images": 256,
    "augmentation": {"kind": "none"},
}

SMALL: Final[Recipe] = {
    "family": "scalenet20",
    "epochs": 40,
    "batch_size": 64,
    "learning_rate": 0.1,
    "warmup_epochs": 2,
    "label_smoothing": 0.1,
    "ema_decay": 0.995,
    "baselines": ["even", "single"],
}
"""Ours, for some thousand to some ten thousand images."""

CIFAR: Final[Recipe] = {
    **AS_PUBLISHED,
    "family": "scalenet56",
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "augmentation": {"kind": "pad_crop", "padding": 4, "padding_mode": "zeros"},
}
IMAGENET: Final[Recipe] = {
    **AS_PUBLISHED,
    "family": "scalenet50",
    "nominal": 224,
    "epochs": 100,
    "batch_size": 256,
    "learning_rate": 0.1,
    "schedule": "thirds",
    "weight_decay": 1e-4,
    "augmentation": {"kind": "resized_crop", "minimum_scale": 0.08},
}

PRESETS: Final[dict[str, Recipe]] = {"small": SMALL, "cifar": CIFAR, "imagenet": IMAGENET}
