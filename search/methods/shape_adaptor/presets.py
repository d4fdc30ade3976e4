"""Presets: the recipes of the paper, and ours for small datasets. Plain data, torch-free.

Source: Liu et al., Shape Adaptor, ECCV 2020 (arXiv 2008.00892), section 4 and appendix.
"""

from __future__ import annotations

from typing import Any, Final

from paretofit.search.training.recipe import AS_PUBLISHED, QUICK

Recipe = dict[str, Any]

TINY: Final[Recipe] = {
    **QUICK,
    "families": ["wrn_10_1"],
    "base_width": 0.5,
    "resolutions": [12],
    "last_sides": [4],
    "targets": [0.6, 1.5, 5.0],
    "trials": 3,
    "human": False,
    "alpha_interval": 5,
    "epochs": 3,
    "batch_size": 32,
    "calibration_images": 256,
    "augmentation": {"kind": "none"},
}

SMALL: Final[Recipe] = {
    "families": ["vgg16"],
    "base_width": 0.25,
    "adaptors": [6],
    "targets": [0.5, 1.0, 2.0],
    "modes": ["standard", "autosc"],
    "trials": 8,
    "random_shapes": 2,
    "alpha_interval": 5,
    "alpha_learning_rate": 0.5,
    "epochs": 30,
    "batch_size": 128,
    "learning_rate": 0.1,
}
"""Ours, for some thousand to some ten thousand images."""

CIFAR: Final[Recipe] = {
    **AS_PUBLISHED,
    "families": ["vgg16", "resnet50", "mobilenet_v2"],
    "targets": [0.0, 1.0],
    "trials": 6,
    "settle": 1.0,
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "decay": "all",
    "augmentation": {"kind": "pad_crop", "padding": 4, "padding_mode": "zeros"},
}
IMAGENET: Final[Recipe] = {
    **AS_PUBLISHED,
    "families": ["resnet50"],
    "nominal": 224,
    "adaptors": [6],
    # Six adaptors cannot make a shape as cheap as a stem of stride 2 and a pool.
    "targets": [0.0, 2.0],
    "trials": 2,
    "settle": 1.0,
    "alpha_interval": 1500,
    "epochs": 150,
    "batch_size": 256,
    "learning_rate": 0.1,
    "weight_decay": 1e-4,
    "augmentation": {"kind": "resized_crop", "minimum_scale": 0.08},
}
COMPRESSION: Final[Recipe] = {
    **AS_PUBLISHED,
    "families": ["vgg16", "resnet50", "mobilenet_v2"],
    "modes": ["autosc"],
    "targets": [0.0],
    "trials": 3,
    "settle": 1.0,
    "alpha_interval": 200,
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "augmentation": {"kind": "pad_crop", "padding": 4, "padding_mode": "zeros"},
}
TRANSFER: Final[Recipe] = {
    **AS_PUBLISHED,
    "families": ["resnet50"],
    "modes": ["autotl"],
    "targets": [0.0],
    "trials": 1,
    "settle": 1.0,
    "epochs": 80,
    "batch_size": 8,
    "learning_rate": 0.001,
    "weight_decay": 5e-4,
    "decay": "all",
    "augmentation": {"kind": "pad_crop", "padding": 28, "padding_mode": "reflect"},
}
"""Give it a `start`; otherwise the human-designed network is trained with this recipe too."""

PRESETS: Final[dict[str, Recipe]] = {
    "small": SMALL,
    "cifar": CIFAR,
    "imagenet": IMAGENET,
    "compression": COMPRESSION,
    "transfer": TRANSFER,
}
