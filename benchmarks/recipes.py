"""Ablation of the default recipes (`paretofit.search.training.recipe`): photos of clothes (`benchmarks.photos`) and
Fashion-MNIST.

Each claim compares the test accuracy of the default with the best of its alternatives. The goal is to lose at most two
points, about one standard error on 372 photos. Single networks, one seed, each on one thread.

- From trained weights, MobileNetV2 at 64 px and FD-MobileNet at 96 px: `backbone_rate` .03 and .3, 600 and 2,000
  steps, one at a time.
- From scratch, FD-MobileNet x .5 on photos and x .25 on 10,000 Fashion-MNIST images: half and twice the learning rate,
  no gradient clipping and no warm-up at three times the rate, and for the small images no padding and full padding.

An interrupted run is resumed (`benchmarks.searches`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Claim, Report, run_on_data
from benchmarks.photos import DATASET as PHOTOS
from benchmarks.photos import archive, network, start
from benchmarks.searches import SearchOutcome, SearchRun, cached_searches
from paretofit.search.contracts.dataset import DatasetSpec

GARMENTS: Final = DatasetSpec.model_validate(
    {
        "name": "recipes",
        "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 11_112},
    }
)
BACKBONES: Final = (0.03, 0.3)
STEPS: Final = (600, 2000)
RATES: Final = (0.05, 0.2)
UNSAFE: Final[dict[str, Any]] = {"learning_rate": 0.3, "clip_norm": 0, "warmup_epochs": 0}
PADDING: Final = (0, 4)
GOAL: Final = -0.02
_PHOTOS: Final = 3068
_BATCH: Final = 32


def main(data: Path | None) -> Report:
    tuned: dict[str, SearchRun] = {}
    for name, side in _STARTED:
        own, variants = network(name, 1.0, side) | {"start": start(name)}, dict[str, dict[str, Any]]()
        variants |= {f"backbone-{rate}": {"backbone_rate": rate} for rate in BACKBONES}
        variants |= {f"{steps}-steps": {"epochs": round(steps * _BATCH / _PHOTOS)} for steps in STEPS}
        tuned |= _runs(f"{name}-{side}px", own, variants)
    rates: dict[str, dict[str, Any]] = {f"rate-{rate}": {"learning_rate": rate} for rate in RATES}
    rates |= {"rate-0.3-unsafe": UNSAFE}
    padding = {f"padding-{by}": {"augmentation": _padded(by)} for by in PADDING}
    tuned |= _runs("photos", network("fd_mobilenet", 0.5, 128), rates)
    small = _runs("garments", network("fd_mobilenet", 0.25, 32), rates | padding)
    photos = cached_searches("recipes", PHOTOS, archive=archive(data)).run(tuned)
    garments = cached_searches("recipes", GARMENTS).run(small)
    found = {name: _top1(each) for name, each in {**photos, **garments}.items()}
    claims = [_claim(f"{name}-{side}px", found) for name, side in _STARTED]
    claims += [_claim(name, found) for name in ("photos", "garments")]
    return Report("recipes", tuple(claims), {"test_top1": {name: round(top1, 4) for name, top1 in found.items()}})


_STARTED: Final = (("mobilenet_v2", 64), ("fd_mobilenet", 96))


def _runs(name: str, own: dict[str, Any], variants: dict[str, dict[str, Any]]) -> dict[str, SearchRun]:
    """The default recipe, and variants of it."""
    return {
        f"{name}-{variant}": SearchRun(own | changes, 0) for variant, changes in {"default": {}, **variants}.items()
    }


def _padded(by: int) -> dict[str, Any]:
    return {"kind": "pad_crop", "padding": by, "padding_mode": "reflect"}


def _top1(outcome: SearchOutcome) -> float:
    """The best test accuracy, 0 if training learned nothing."""
    return max((point.metrics["top1"] for point in outcome.points if "top1" in point.metrics), default=0.0)


def _claim(name: str, found: dict[str, float]) -> Claim:
    others = [top1 for other, top1 in found.items() if other.startswith(f"{name}-")]
    return Claim(f"{name}_default_over_best", found[f"{name}-default"] - max(others), GOAL, "higher")


if __name__ == "__main__":
    run_on_data(main)
