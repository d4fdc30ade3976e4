"""Presets: the recipe of the paper, and ours for small datasets. Plain data, torch-free.

Source: Qin et al., FD-MobileNet (arXiv 1802.03750), section 4.1.
"""

from __future__ import annotations

from typing import Any, Final

from paretofit.search.training.recipe import AS_PUBLISHED, QUICK

Recipe = dict[str, Any]

TINY: Final[Recipe] = {
    **QUICK,
    "families": ["fd_mobilenet", "shufflenet_v1"],
    "widths": [0.25],
    "resolutions": [32, 24],
    "trials": 3,
    "epochs": 1,
    "batch_size": 32,
    "calibration_images": 256,
    "augmentation": {"kind": "none"},
}
DEMO: Final[Recipe] = {
    **AS_PUBLISHED,
    "families": ["fd_mobilenet", "mobilenet_v1"],
    "widths": [0.25, 0.5],
    "resolutions": [32, 24],
    "trials": 6,
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": 0.15,
    "calibration_images": 1024,
    "augmentation": {"kind": "none"},
}
"""For 12,000 small images and some minutes on two cores."""

IMAGENET: Final[Recipe] = {
    **AS_PUBLISHED,
    "widths": [0.25, 0.5, 1.0],
    "resolutions": [224, 192, 160, 128],
    "epochs": 90,
    "batch_size": 256,
    "learning_rate": 0.1,
    "schedule": "thirds",
    "weight_decay": 4e-5,
    "augmentation": {"kind": "resized_crop", "minimum_scale": 0.5},
}
"""Recipe of the paper: mild scale augmentation, no color changes."""

FD_MOBILENET: Final[dict[str, Recipe]] = {"demo": DEMO, "imagenet": IMAGENET}
