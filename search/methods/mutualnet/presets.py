"""Presets: the recipes of the papers, and ours for small datasets. Plain data, torch-free.

Source: Yang et al., MutualNet (arXiv 1909.12978, section 4, and 2105.07085); Yu & Huang, US-Net (arXiv 1903.05134).
"""

from __future__ import annotations

from typing import Any, Final

from paretofit.search.training.recipe import AS_PUBLISHED

Recipe = dict[str, Any]

PUBLISHED: Final[Recipe] = {**AS_PUBLISHED, "full_first": 0.0, "lowering": 0.0, "polish": 0}
"""Features that the training of the papers does not have."""

DEMO: Final[Recipe] = {
    **PUBLISHED,
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.15,
    "warmup_epochs": 0.3,
    "clip_norm": 5.0,
    "random_widths": 1,
    "calibration_images": 1024,
    "augmentation": {"kind": "none"},
}
"""For 12,000 small images and two minutes on two cores: too few epochs for random crops to help, and one random width
per step instead of the two in the paper, which allows a third more steps. Hypervolume with seeds 0 and 1: .789 and
.776; without warm-up and gradient clipping .774 and .757."""

SMALL: Final[Recipe] = {
    "family": "fd_mobilenet",
    "base_width": 0.5,
    "epochs": 60,
    "batch_size": 64,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "warmup_epochs": 3,
    "label_smoothing": 0.1,
    "ema_decay": 0.995,
}
"""Ours, for some thousand to some ten thousand images: short warm-up, label smoothing and averaged weights instead of
many epochs."""

_CIFAR: Final[Recipe] = {
    **PUBLISHED,
    "base_width": 1.0,
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "decay": "all",
    "augmentation": {"kind": "pad_crop", "padding": 4, "padding_mode": "reflect"},
}
_IMAGENET: Final[Recipe] = {
    **PUBLISHED,
    "base_width": 1.0,
    "weight_decay": 1e-4,
    "decay": "dense",
}
_MOBILE: Final[Recipe] = {"epochs": 250, "batch_size": 1024, "learning_rate": 0.5}


def _colours(minimum_scale: float) -> Recipe:
    return {
        "augmentation": {
            "kind": "resized_crop",
            "minimum_scale": minimum_scale,
            "colour_jitter": 0.4,
            "pca_lighting": 0.1,
        }
    }


def _widths(least: float) -> Recipe:
    return {"widths": {"min": least, "max": 1.0}}


IMAGENET: Final[dict[str, Recipe]] = {
    "imagenet": {"family": "mobilenet_v1", **_IMAGENET, **_MOBILE, **_colours(0.25), **_widths(0.25)},
    "imagenet_mobilenet_v2": {"family": "mobilenet_v2", **_IMAGENET, **_MOBILE, **_colours(0.25), **_widths(0.7)},
    "imagenet_resnet50": {
        "family": "resnet50",
        **_IMAGENET,
        "epochs": 120,
        "batch_size": 512,
        "learning_rate": 0.2,
        **_colours(0.08),
        **_widths(0.9),
    },
}
CIFAR: Final[dict[str, Recipe]] = {
    "cifar": {"family": "wrn_28_10", **_CIFAR, **_widths(0.9)},
    "cifar_vgg16": {"family": "vgg16", **_CIFAR, **_widths(0.25)},
}
"""VGG-16 with the recipe of WRN-28-10: the paper uses it in detectors only, at these widths."""

MUTUALNET: Final[dict[str, Recipe]] = {"demo": DEMO, "small": SMALL, **CIFAR, **IMAGENET}
US_NET: Final[dict[str, Recipe]] = {
    "small": SMALL,
    **CIFAR,
    **IMAGENET,
    "imagenet": IMAGENET["imagenet"] | _widths(0.05),
    "imagenet_mobilenet_v2": IMAGENET["imagenet_mobilenet_v2"] | _widths(0.35),
}
"""The MobileNets with the widths that meet MutualNet's budgets at one resolution."""
