"""How accurate FD-MobileNet is against MobileNetV1 at equal multiply-accumulates, in the paper's two smallest budgets.

Fashion-MNIST, 12,000 images, 32 pixels; FD-MobileNet at widths 0.5 and 0.25, MobileNetV1 at the width whose MACs are
nearest; the same recipe for all, three seeds, `top1` on the 10,000 test images. Goal: FD-MobileNet is better in the mean
(Qin et al., arXiv 1802.03750, table 3: by 5.6 and 5.5 points on ImageNet).

What is trained is kept in PARETOFIT_HOME/cache/benchmarks; a run that was interrupted goes on from there.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from statistics import mean
from typing import Any, Final

import torch

from benchmarks.harness import Claim, Report, run
from cores import cores
from models.cost import cost
from models.families.registry import architecture
from search.allocator import keep_freed_memory
from search.data.ingest import IngestRequest, ingest
from search.data.store import Dataset
from search.local import LocalSearch
from search.methods.method import DatasetProfile
from search.reporter import Stop
from search.spec import DatasetSpec, ResolvedSpec, SearchSpec
from settings import get_settings

SEEDS: Final = (0, 1, 2)
WIDTHS: Final = {40: 0.5, 12: 0.25}
"""FD-MobileNet's, by the budget that they have at 224 pixels (million MACs)."""
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
    return measured(METHOD, DATASET, SEEDS)


def measured(method: dict[str, Any], data: DatasetSpec, seeds: tuple[int, ...]) -> Report:
    """Train every network that is compared; the claims on what they come to."""
    keep_freed_memory()
    torch.set_num_threads(cores())
    folder = _folder(method, data)
    dataset = folder / "dataset"
    if not dataset.exists():
        partial = folder / "dataset.partial"
        ingest(IngestRequest(spec=data), partial)
        partial.rename(dataset)
    profile = Dataset.open(dataset).profile
    claims, details = [], {}
    for budget, width in WIDTHS.items():
        networks = {"fd_mobilenet": width, RIVAL: matched(profile, width)}
        top1 = {
            family: [_trained(method, dataset, folder, family, chosen, seed) for seed in seeds]
            for family, chosen in networks.items()
        }
        gains = [ours - theirs for ours, theirs in zip(top1["fd_mobilenet"], top1[RIVAL], strict=True)]
        claims.append(Claim(f"top1_gain_{budget}", mean(gains), goal=0.0, better="higher"))
        details[str(budget)] = {
            family: {"width": chosen, "macs": _macs(profile, family, chosen), "top1": top1[family]}
            for family, chosen in networks.items()
        }
    return Report("compact_accuracy", tuple(claims), {"budgets": details})


def matched(profile: DatasetProfile, width: float) -> float:
    """The width, in thousandths, at which the rival's MACs are nearest to those of FD-MobileNet."""
    goal = _macs(profile, "fd_mobilenet", width)
    widths = (thousandth / 1000 for thousandth in range(50, 1001))
    return min(widths, key=lambda each: (abs(_macs(profile, RIVAL, each) - goal), each))


def _trained(method: dict[str, Any], dataset: Path, folder: Path, family: str, width: float, seed: int) -> float:
    """`top1` of one network, trained now or before."""
    out = folder / f"{family}-{width:g}-{seed}"
    spec = _spec(method | {"families": [family], "widths": [width]}, dataset, seed)
    front = LocalSearch(spec, dataset, out).run(lambda: Stop.NO, _silent)
    [point] = front.points
    sys.stderr.write(f"{point.key} seed {seed}: {point.metrics['top1']:.4f}\n")
    return point.metrics["top1"]


def _silent(trial: int, fraction: float) -> None:
    """Progress is not shown."""
    del trial, fraction


def _spec(method: dict[str, Any], dataset: Path, seed: int) -> ResolvedSpec:
    body = {"name": "compact", "dataset_id": "local", "method": method, "seed": seed}
    return SearchSpec.model_validate(body).resolve(Dataset.open(dataset).profile)


def _macs(profile: DatasetProfile, family: str, width: float) -> int:
    side = min(profile.image_size)
    network = architecture(family, width=width, nominal=side, classes=len(profile.classes), channels=profile.channels)
    return cost(network, (side, side)).macs


def _folder(method: dict[str, Any], data: DatasetSpec) -> Path:
    """Of this dataset and recipe, kept from one run to the next."""
    described = hashlib.sha256(f"{data.model_dump_json()} {method}".encode()).hexdigest()[:12]
    folder = get_settings().home / "cache" / "benchmarks" / f"compact-{described}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    run(main)
