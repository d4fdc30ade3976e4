"""Ablation of the default recipes (`paretofit.search.training.recipe`): photos of clothes (`benchmarks.photos`) and
Fashion-MNIST.

Each claim compares the test accuracy of the default with the best of its alternatives. The goal is to lose at most two
points, about one standard error on 372 photos. Single networks, one seed, each on one thread.

- From trained weights: `backbone_rate` .03, .1 and .3 with 600 and 2,000 steps, MobileNetV2 at 64 px and FD-MobileNet
  at 96 px.
- From scratch: learning rates from .025 to .15 at batch size 64, with and without gradient clipping, FD-MobileNet x .5
  on photos and x .25 on 10,000 Fashion-MNIST images.

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
BACKBONES: Final = (0.03, 0.1, 0.3)
STEPS: Final = (600, 2000)
RATES: Final = (0.025, 0.05, 0.1, 0.15)
GOAL: Final = -0.02
_PHOTOS: Final = 3068
_BATCH: Final = 32


def main(data: Path | None) -> Report:
    tuned = {
        f"{name}-{side}px-backbone-{rate}-{steps}": SearchRun(
            network(name, 1.0, side)
            | {"start": start(name), "backbone_rate": rate, "epochs": round(steps * _BATCH / _PHOTOS)},
            0,
        )
        for name, side in (("mobilenet_v2", 64), ("fd_mobilenet", 96))
        for rate in BACKBONES
        for steps in STEPS
    }
    tuned |= {
        f"{name}-{side}px-default": SearchRun(network(name, 1.0, side) | {"start": start(name)}, 0)
        for name, side in _STARTED
    }
    photos = cached_searches("recipes", PHOTOS, archive=archive(data)).run(tuned | _scratch("photos", 0.5, 128))
    garments = cached_searches("recipes", GARMENTS).run(_scratch("garments", 0.25, 32))
    found = {name: _top1(each) for name, each in {**photos, **garments}.items()}
    claims = [_claim(f"{name}-{side}px", found) for name, side in _STARTED]
    claims += [_claim(name, found) for name in ("photos", "garments")]
    return Report("recipes", tuple(claims), {"test_top1": {name: round(top1, 4) for name, top1 in found.items()}})


_STARTED: Final = (("mobilenet_v2", 64), ("fd_mobilenet", 96))


def _scratch(name: str, width: float, side: int) -> dict[str, SearchRun]:
    own: dict[str, Any] = network("fd_mobilenet", width, side)
    return {
        f"{name}-default": SearchRun(own, 0),
        **{f"{name}-rate-{rate}": SearchRun(own | {"learning_rate": rate}, 0) for rate in RATES},
        f"{name}-rate-0.15-unlimited": SearchRun(own | {"learning_rate": 0.15, "clip_norm": 0, "warmup_epochs": 0}, 0),
    }


def _top1(outcome: SearchOutcome) -> float:
    """The best test accuracy, 0 if training learned nothing."""
    return max((point.metrics["top1"] for point in outcome.points if "top1" in point.metrics), default=0.0)


def _claim(name: str, found: dict[str, float]) -> Claim:
    others = [top1 for other, top1 in found.items() if other.startswith(f"{name}-")]
    return Claim(f"{name}_default_over_best", found[f"{name}-default"] - max(others), GOAL, "higher")


if __name__ == "__main__":
    run_on_data(main)
