"""Accuracy of FD-MobileNet against MobileNetV1 at equal multiply-accumulates, in the two smallest budgets of the paper.

Fashion-MNIST, 12,000 images, 32 pixels; FD-MobileNet at widths 0.5 and 0.25, MobileNetV1 at the width with the nearest
MACs; the same recipe for all, three seeds, `top1` on the 10,000 test images. Goal: FD-MobileNet is better on average
(Qin et al., arXiv 1802.03750, table 3: by 5.6 and 5.5 points on ImageNet).

An interrupted run is resumed (`benchmarks.searches`).
"""

from __future__ import annotations

from statistics import mean
from typing import Any, Final

from benchmarks.harness import Claim, Report, run
from benchmarks.searches import SearchRun, cached_searches
from paretofit.models.cost import cost
from paretofit.models.families.registry import architecture
from paretofit.search.contracts.dataset import DatasetProfile, DatasetSpec

SEEDS: Final = (0, 1, 2)
WIDTHS: Final = {40: 0.5, 12: 0.25}
"""Widths of FD-MobileNet by their budget at 224 pixels (million MACs)."""
RIVAL: Final = "mobilenet_v1"
DATASET: Final = DatasetSpec.model_validate(
    {"name": "compact", "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 12_000}}
)
METHOD: Final[dict[str, Any]] = {
    "kind": "fd_mobilenet",
    "resolutions": [32],
    "trials": 1,
    "epochs": 4,
    "learning_rate": 0.1,
    "label_smoothing": 0.1,
    "augmentation": {"kind": "pad_crop", "padding": 2, "padding_mode": "reflect"},
    "pruning": {"fractions": []},
}


def main() -> Report:
    searches = cached_searches("compact", DATASET, METHOD)
    profile = searches.profile
    networks = {budget: {"fd_mobilenet": width, RIVAL: matched(profile, width)} for budget, width in WIDTHS.items()}
    runs = {
        f"{family}-{width:g}-{seed}": SearchRun(METHOD | {"families": [family], "widths": [width]}, seed)
        for seed in SEEDS
        for compared in networks.values()
        for family, width in compared.items()
    }
    top1 = {name: outcome.points[0].metrics["top1"] for name, outcome in searches.run(runs).items()}
    claims, details = [], {}
    for budget, compared in networks.items():
        by_family = {
            family: [top1[f"{family}-{width:g}-{seed}"] for seed in SEEDS] for family, width in compared.items()
        }
        gains = [ours - theirs for ours, theirs in zip(by_family["fd_mobilenet"], by_family[RIVAL], strict=True)]
        claims.append(Claim(f"top1_gain_{budget}", mean(gains), goal=0.0, better="higher"))
        details[str(budget)] = {
            family: {"width": width, "macs": _macs(profile, family, width), "top1": by_family[family]}
            for family, width in compared.items()
        }
    return Report("compact_accuracy", tuple(claims), {"budgets": details})


def matched(profile: DatasetProfile, width: float) -> float:
    """The width, in thousandths, at which the MACs of MobileNetV1 are nearest to those of FD-MobileNet."""
    goal = _macs(profile, "fd_mobilenet", width)
    widths = (thousandth / 1000 for thousandth in range(50, 1001))
    return min(widths, key=lambda each: (abs(_macs(profile, RIVAL, each) - goal), each))


def _macs(profile: DatasetProfile, family: str, width: float) -> int:
    side = min(profile.image_size)
    network = architecture(family, width=width, nominal=side, classes=len(profile.classes), channels=profile.channels)
    return cost(network, (side, side)).macs


if __name__ == "__main__":
    run(main)
