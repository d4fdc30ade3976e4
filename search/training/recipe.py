"""Default training recipe: chosen by the dataset's size and images, and by whether training starts from trained
weights. Torch-free.

`benchmarks/recipes.py` compares the values with alternatives, on photos of clothes and on Fashion-MNIST.
"""

from __future__ import annotations

import math
from typing import Any, Final

from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.data.augmentation import Augmentation

PHOTO_SIDE: Final = 64
"""Color images larger than this many pixels are photos, which are cropped at random areas. Smaller ones are padded and
cropped."""
PROBE_IMAGES: Final = 20
"""Images per class below which trained weights are probed instead of tuned."""

_SCRATCH_RATE: Final = 0.1
"""Learning rate at batch size 64, with warm-up and clipping, which keep networks without shortcuts from collapsing.
FD-MobileNet x .25 on 10,000 Fashion-MNIST images, 22 epochs: .05 gives 88.8 %, .1 gives 90.3 %, .2 gives 90.1 %."""
PADDING: Final = 1 / 8
"""Padding of small images in a long training, as a fraction of their size."""
LONG: Final = 40
"""Epochs from which small images are padded by `PADDING`; shorter trainings from scratch get proportionally less. A
padding of 1/8 loses 3.6 points at 5 epochs and .9 at 22 on Fashion-MNIST, and gains 4.0 at 40 on 3,068 photos of 32
pixels. Trainings from trained weights were not measured."""
_HEAD_RATE: Final = 0.1
"""Learning rate of the classifier on trained weights, at batch size 64; the other layers get `BACKBONE_RATE` of it."""
BACKBONE_RATE: Final = 0.1
SHARED_BACKBONE_RATE: Final = 0.3
"""For networks that share weights, because the narrow ones have much to learn. Clothes, FD-MobileNet x 1 at 112 px,
before the polish: .3 gives 85.0 % at width 1, 77.7 % at .5 and 68.8 % at .25; .1 gives 79.0 %, 65 % and 58.6 %."""
MOST_WARMUP: Final = 0.2
"""Maximum fraction of a training from scratch for the warm-up."""

AS_PUBLISHED: Final[dict[str, Any]] = {
    "warmup_epochs": 0.0,
    "label_smoothing": 0.0,
    "ema_decay": 0.0,
    "clip_norm": 0.0,
    "backbone_rate": 1.0,
    "effort": "tune",
}
"""Features that the recipes of the papers do not have; their presets begin with these values."""
QUICK: Final[dict[str, Any]] = {**AS_PUBLISHED, "learning_rate": 0.15}
"""For the few steps of a `tiny` search."""


def training(dataset: DatasetProfile, given: dict[str, Any], *, started: bool) -> dict[str, Any]:
    """A value for every parameter of the recipe. `given` are the user's choices, which others depend on."""
    images = dataset.images["train"]
    batch = given.get("batch_size") or batch_size(images, started=started)
    steps_per_epoch = max(1, images // batch)
    effort = given.get("effort") or ("probe" if started and images < PROBE_IMAGES * len(dataset.classes) else "tune")
    length = given.get("epochs") or epochs(images, batch, started=started)
    rate = _HEAD_RATE if started else _SCRATCH_RATE
    chosen = {
        "epochs": length,
        "batch_size": batch,
        "learning_rate": float(f"{rate * batch / 64:.3g}"),
        "warmup_epochs": warmup(length, steps_per_epoch, started=started),
        "label_smoothing": 0.1,
        "ema_decay": 0.99 if started else 0.0,
        "clip_norm": 5.0,
        "backbone_rate": BACKBONE_RATE if started else 1.0,
        "effort": effort,
        "augmentation": augmentation(dataset, LONG if started else length, started=started),
    }
    return {name: given[name] if given.get(name) is not None else value for name, value in chosen.items()}


def batch_size(images: int, *, started: bool) -> int:
    """32 or 64; less for a dataset with fewer than four such batches, but at least 16, which batch norm needs."""
    usual = 32 if started and images < 20_000 else 64
    return max(2, min(usual, max(16, images // 4), images))


def epochs(images: int, batch: int, *, started: bool) -> int:
    """Epochs for this number of training images: enough steps for small datasets, not too many for large ones."""
    steps_per_epoch = max(1, images // batch)
    if started:
        steps = min(max(10 * images / batch, 600), 5000)
        return max(1, round(steps / steps_per_epoch))
    # 40 at 3,000 images, 20 at 12,000, 9 at 60,000.
    return min(max(round(40 * math.sqrt(3000 / images)), 8), 200)


def warmup(length: float, steps_per_epoch: int, *, started: bool) -> float:
    """Warm-up epochs: 5 % of a training from trained weights; else two, or 100 steps if those are more, at most a fifth
    of the training."""
    if started:
        return round(0.05 * length, 3)
    return round(min(max(2.0, 100 / steps_per_epoch), MOST_WARMUP * length), 3)


def augmentation(dataset: DatasetProfile, epochs: float, *, started: bool) -> Augmentation:
    """Random areas for photos; small images are padded by up to an eighth of their size and cropped."""
    side = min(dataset.image_size)
    if dataset.channels == 3 and side > PHOTO_SIDE:
        return Augmentation(kind="resized_crop", minimum_scale=0.35, colour_jitter=0.2 if started else 0.0)
    return padded(dataset, int(PADDING * side * min(1.0, epochs / LONG)))


def padded(dataset: DatasetProfile, padding: int | None = None) -> Augmentation:
    """Padded by reflection, by default by an eighth of their size, and cropped at random."""
    most = max(1, int(PADDING * min(dataset.image_size)))
    return Augmentation(kind="pad_crop", padding=most if padding is None else padding, padding_mode="reflect")
