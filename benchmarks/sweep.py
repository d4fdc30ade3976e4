"""Cost of a sweep over 16 widths x 4 resolutions of a network trained on Fashion-MNIST.

- `adaptive_hypervolume_share`: hypervolume of the front of the adaptive sweep over that of the full grid, computed from
  networks that both measured on all selection images; the minimum over the seeds. Goal: 0.99.
- `adaptive_images_share`: images that the adaptive sweep passed through networks, including calibration, over those of
  the full grid; the maximum over the seeds. Goal: 0.3.
- `grid_speedup`: the full grid against measuring each configuration separately, with its own `torch.utils.data` loaders
  for calibration and selection. Same network and images; accuracies differ by less than 1 %. Goal: 2.

The network is trained once and cached in PARETOFIT_HOME/cache/benchmarks.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torch.utils.data import Dataset as TorchDataset

from benchmarks.harness import Claim, Report, interleaved, run
from paretofit.core.settings import get_settings
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search import evaluation
from paretofit.search.contracts.dataset import DatasetProfile, DatasetSpec
from paretofit.search.contracts.latency import Measured
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.ingest import IngestRequest, ingest
from paretofit.search.data.loader import Batch
from paretofit.search.data.sampling import resize
from paretofit.search.data.store import Dataset, Split
from paretofit.search.methods.mutualnet import supernet, sweep, train
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.space import groups, spread_first, width_of
from paretofit.search.pareto import hypervolume
from paretofit.search.training.subnet_evaluator import SubnetEvaluator

SEEDS: Final = (0, 1, 2)
REPEATS: Final = 3
CALIBRATION: Final = 1024
DATASET: Final = DatasetSpec.model_validate(
    {
        "name": "sweep",
        "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 12_000},
        "splits": {"selection": 0.25},
    }
)
METHOD: Final[dict[str, Any]] = {
    "kind": "mutualnet",
    "epochs": 4,
    "random_widths": 1,
    "calibration_images": CALIBRATION,
    "augmentation": {"kind": "none"},
}


@dataclass
class CollectingReporter:
    """A reporter that collects the last report of each point and files in `folder`.

    `first_file` is the time of the first file: in a sweep the shared network, before the front is measured on the
    report split.
    """

    folder: Path
    points: dict[str, Point] = field(default_factory=dict)
    first_file: float | None = None

    def metric(self, name: str, step: int, value: float) -> None:
        """Ignored."""

    def point(self, point: Point) -> None:
        self.points[point.key] = point

    def artifact(self, name: str, path: Path) -> None:
        self.first_file = self.first_file or time.perf_counter()
        shutil.copy(path, self.folder / name)

    def latency(self, measured: Measured) -> None:
        """Ignored; sweeps measure no latency."""

    def checkpoint(self, path: Path, step: int) -> None:
        del step
        shutil.rmtree(path)

    def should_stop(self) -> Stop:
        return Stop.NO


class Images(TorchDataset[tuple[Tensor, int]]):
    """A split as a conventional `torch.utils.data` dataset: normalized images, one by one."""

    def __init__(self, split: Split, profile: DatasetProfile) -> None:
        self._split = split
        self._mean = torch.tensor(profile.mean)[:, None, None]
        self._std = torch.tensor(profile.std)[:, None, None]

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self._split.image(row).copy()).float() / 255
        return (image - self._mean) / self._std, int(self._split.labels[row])


def main() -> Report:
    folder = _folder()
    dataset, network = folder / "dataset", folder / "supernet"
    if not network.exists():
        shutil.rmtree(dataset, ignore_errors=True)
        ingest(IngestRequest(spec=DATASET), dataset)
        with _trial(_spec(dataset), dataset, None) as trial:
            train.run(trial, CollectingReporter(folder))
    found = [_adaptive_and_grid(dataset, network, seed) for seed in SEEDS]
    seconds = _timed(dataset, network)
    shares, images = [each["hypervolume_share"] for each in found], [each["images_share"] for each in found]
    speedups = [own / grid for own, grid in zip(seconds["own_loaders"], seconds["grid"], strict=True)]
    claims = (
        Claim("adaptive_hypervolume_share", min(shares), goal=0.99, better="higher"),
        Claim("adaptive_images_share", max(images), goal=0.3, better="lower"),
        Claim("grid_speedup", median(speedups), goal=2, better="higher"),
    )
    return Report("sweep", claims, {"seeds": found, "seconds": seconds})


def _adaptive_and_grid(dataset: Path, network: Path, seed: int) -> dict[str, Any]:
    spec = _spec(dataset, seed=seed, sweep={"mode": "adaptive"})
    with _trial(spec, dataset, network) as trial:
        reporter = CollectingReporter(trial.work.parent)
        started = time.perf_counter()
        outputs = sweep.run(trial, reporter)
        seconds = (reporter.first_file or time.perf_counter()) - started
        evaluator = SubnetEvaluator(trial, supernet.load(network), _largest(spec))
        started = time.perf_counter()
        full = _measured(evaluator, spec)
        grid_seconds = time.perf_counter() - started
    if any(full[key]["selection_top1"] != point.metrics["selection_top1"] for key, point in reporter.points.items()):
        raise RuntimeError("adaptive and grid sweeps measured different accuracies of the same network")
    box = min(metrics["macs"] for metrics in full.values()), max(metrics["macs"] for metrics in full.values())
    classes = len(spec.dataset.classes)
    of_grid = hypervolume(list(full.values()), macs=box, classes=classes)
    of_adaptive = hypervolume([full[key] for key in reporter.points], macs=box, classes=classes)
    return {
        "seed": seed,
        "hypervolume": of_grid,
        "hypervolume_share": of_adaptive / of_grid,
        "images_share": outputs["images"] / evaluator.images,
        "measured": outputs["evaluated"],
        "adaptive_seconds": round(seconds, 1),
        "grid_seconds": round(grid_seconds, 1),
    }


def _timed(dataset: Path, network: Path) -> dict[str, list[float]]:
    """Seconds for all configurations, per repetition."""
    spec = _spec(dataset)
    accuracies: dict[str, dict[str, float]] = {}
    with _trial(spec, dataset, network) as trial:

        def grid() -> None:
            evaluator = SubnetEvaluator(trial, supernet.load(network), _largest(spec))
            accuracies["grid"] = {key: metrics["selection_top1"] for key, metrics in _measured(evaluator, spec).items()}

        def own_loaders() -> None:
            shared = supernet.load(network)
            accuracies["own"] = {c.key: _by_itself(shared, spec, dataset, c) for c in spec.candidates()}

        seconds = interleaved({"grid": grid, "own_loaders": own_loaders}, repeats=REPEATS, warmup=0)
    differences = [abs(accuracies["grid"][key] - accuracies["own"][key]) for key in accuracies["grid"]]
    if max(differences) > 0.01:
        raise RuntimeError(f"grid and separate measurements differ by {max(differences):.1%}")
    return seconds


@torch.inference_mode()
def _by_itself(network: Slimmable, spec: ResolvedSpec, folder: Path, candidate: Candidate) -> float:
    """The accuracy of one configuration, measured with loaders of its own."""
    dataset = Dataset.open(folder)
    architecture = spec.params(SlimmableParams).architecture(spec.dataset, width_of(candidate.config))
    train_images = Images(dataset.split("train"), spec.dataset)
    rows = np.random.default_rng(0).permutation(len(train_images))[:CALIBRATION].tolist()
    calibration = DataLoader(Subset(train_images, rows), batch_size=128)
    network.calibrate(architecture, (resize(images, candidate.input_size) for images, _ in calibration))
    selection = DataLoader(Images(dataset.split("selection"), spec.dataset), batch_size=128)
    batches = (Batch(resize(images, candidate.input_size), labels) for images, labels in selection)
    return evaluation.accuracy(lambda images: network(images, architecture), batches)


def _spec(dataset: Path, seed: int = 0, **changes: Any) -> ResolvedSpec:
    body = {"name": "sweep", "dataset_id": "local", "method": {**METHOD, **changes}, "seed": seed}
    return SearchSpec.model_validate(body).resolve(Dataset.open(dataset).profile)


@contextmanager
def _trial(spec: ResolvedSpec, dataset: Path, network: Path | None) -> Iterator[Trial]:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch) / "work"
        work.mkdir()
        inputs = {} if network is None else {"supernet": network}
        yield Trial(
            number=0,
            spec=spec,
            params={"epochs": spec.params(SlimmableParams).epochs},
            dataset=dataset,
            work=work,
            seed=spec.seed,
            inputs=inputs,
        )


def _folder() -> Path:
    """The cache folder for this dataset and method."""
    digest = hashlib.sha256(f"{DATASET.model_dump_json()} {METHOD}".encode()).hexdigest()[:12]
    folder = get_settings().home / "cache" / "benchmarks" / f"sweep-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _largest(spec: ResolvedSpec) -> tuple[int, int]:
    return max(candidate.input_size for candidate in spec.candidates())


def _measured(evaluator: SubnetEvaluator, spec: ResolvedSpec) -> dict[str, dict[str, float]]:
    """The metrics that a full grid measures, by key."""
    metrics: dict[str, dict[str, float]] = {}
    for group in groups(spread_first(spec.candidates()), evaluator.full.images):
        for candidate, top1 in zip(group, evaluator.accuracies(group, evaluator.full), strict=True):
            metrics[candidate.key] = {"selection_top1": top1, **candidate.cost}
    return metrics


if __name__ == "__main__":
    run(main)
