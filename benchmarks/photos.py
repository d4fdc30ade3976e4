"""Results on a user's photos: a small, real, imbalanced set, with default recipes.

The photos: clothing-dataset-small (CC0, github.com/alexeygrigorev/clothing-dataset-small, commit 1196151), 10 classes,
published split, at most 144 pixels. `--data ARCHIVE` names a local copy in the published layout (`train/ validation/
test/`); by default it is downloaded. The majority class of the training split makes up 14.0 % of the test split. All
accuracies are on the published test split.

- a: one network from trained weights, on one thread. b: MutualNet from trained weights, on two threads, with an
  ablation of its parts, and against networks fine-tuned one by one with the same total compute. c: from scratch.
- `*_minutes`: duration of the whole search, without the download of weights.

An interrupted run is resumed (`benchmarks.searches`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Claim, Report, run_on_data
from benchmarks.searches import Searches, SearchOutcome, SearchRun, cached_searches, cached_weights
from paretofit.core.http import Outbound, RefusedError
from paretofit.core.settings import get_settings
from paretofit.search.contracts.dataset import DatasetSpec
from paretofit.search.contracts.point import Point
from paretofit.search.methods.mutualnet import budget
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.pareto import hypervolume

COMMIT: Final = "1196151"
ARCHIVE: Final = f"https://github.com/alexeygrigorev/clothing-dataset-small/archive/{COMMIT}.zip"
DATASET: Final = DatasetSpec.model_validate({"name": "photos", "source": {"kind": "upload"}, "image_size": 144})
IMAGES: Final = {"train": 3068, "selection": 341, "report": 372}
SIDES: Final = (128, 112, 96, 80)
SINGLES: Final = ((1.0, 128), (0.75, 112), (0.5, 96), (0.25, 80))
"""Width and resolution of the networks fine-tuned one by one."""
SHARED: Final[dict[str, Any]] = {
    "kind": "mutualnet",
    "widths": {"min": 0.25, "max": 1.0, "step": 0.125},
    "resolutions": SIDES,
}


def main(data: Path | None) -> Report:
    searches = cached_searches("photos", DATASET, archive=archive(data))
    if searches.profile.images != IMAGES:
        sys.exit(f"--data has {searches.profile.images} images instead of {IMAGES}; give the published archive")
    tuned = searches.run({"mobilenet_v2": _single("mobilenet_v2", 96), "fd_mobilenet": _single("fd_mobilenet", 128)})
    from_weights = {**SHARED, "start": start("fd_mobilenet")}
    shared = searches.run({"mutualnet": SearchRun(from_weights, 0)}, threads=2)["mutualnet"]
    parts: dict[str, dict[str, Any]] = {
        "without sort": {"sort_channels": False},
        "without phases": {"full_first": 0, "lowering": 0},
    }
    epochs = _epochs(searches, from_weights)
    others = searches.run(
        {
            **{name: SearchRun({**from_weights, "polish": 0, **part}, 0) for name, part in parts.items()},
            **{_name(*single): _single("fd_mobilenet", single[1], single[0], epochs) for single in SINGLES},
            "scratch_fd_mobilenet": SearchRun(network("fd_mobilenet", 0.5, 128), 0),
            "scratch_mutualnet": SearchRun(SHARED | {"family": "fd_mobilenet", "base_width": 0.5}, 0),
        }
    )
    singles = [point for single in SINGLES for point in others[_name(*single)].points]
    claims = [
        *_accuracy_claims("a_mobilenet_v2_96px", tuned["mobilenet_v2"], 0.88, minutes=8),
        *_accuracy_claims("a_fd_mobilenet_128px", tuned["fd_mobilenet"], 0.84),
        *_accuracy_claims("b_mutualnet", shared, 0.86, minutes=15),
        Claim("b_mutualnet_15_mmacs", _best(shared, 15e6), 0.82, "higher"),
        Claim("b_mutualnet_6_mmacs", _best(shared, 6e6), 0.76, "higher"),
        Claim("b_hypervolume_over_singles", _volume(shared.points) - _volume(singles), 0, "higher"),
        *_accuracy_claims("c_scratch_fd_mobilenet", others["scratch_fd_mobilenet"], 0.58),
        *_accuracy_claims("c_scratch_mutualnet", others["scratch_mutualnet"], 0.50),
    ]
    swept = [point for point in _front(shared.points) if "polish_gain" not in point.metrics]
    rows = {"all": _row(_front(shared.points)), "without polish": _row(swept)}
    rows |= {f"{name}, without polish": _row(_front(others[name].points)) for name in parts}
    rows[f"one by one, {epochs} epochs each"] = _row(singles)
    return Report("photos", tuple(claims), {"test_top1": rows, "polish_gain": _gains(shared)})


def archive(data: Path | None) -> Path:
    """The archive of the photos: `data`, or the public one. Exits if the download fails."""
    if data is not None:
        return data
    file = get_settings().home / "cache" / f"clothing-dataset-small-{COMMIT}.zip"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with Outbound().get(ARCHIVE) as response:
                content = b"".join(response.chunks())
                if response.status != 200:
                    raise OSError(f"status {response.status}")
        except (OSError, RefusedError) as error:
            sys.exit(f"download of {ARCHIVE} failed ({error}); download it elsewhere and give its path with --data")
        part = file.with_suffix(".part")
        part.write_bytes(content)
        part.replace(file)
    return file


def start(name: str) -> dict[str, str]:
    """The `start` parameter for a named source of trained weights."""
    return {"file": str(cached_weights(name))}


def network(family: str, width: float, side: int) -> dict[str, Any]:
    """Parameters of a search that trains one network."""
    return {"kind": "fd_mobilenet", "families": [family], "widths": [width], "resolutions": [side], "trials": 1}


def _single(name: str, side: int, width: float = 1.0, epochs: int | None = None) -> SearchRun:
    return SearchRun(network(name, width, side) | {"start": start(name), "epochs": epochs}, 0)


def _name(width: float, side: int) -> str:
    return f"single-{width}-{side}"


def _epochs(searches: Searches, method: dict[str, Any]) -> int:
    """Epochs per single network, so that their total compute equals that of MutualNet with its polish."""
    params = searches.resolve(SearchRun(method, 0)).params(SlimmableParams)
    data = searches.profile
    polish = params.polish_networks * params.polish_epochs(data) * budget.polish_macs(params, data)
    alone = [params.candidate(data, {"width": width, "resolution": side}).cost["macs"] for width, side in SINGLES]
    return round((params.epochs * budget.step_macs(params, data) + polish) / sum(alone))


def _accuracy_claims(name: str, outcome: SearchOutcome, goal: float, minutes: float | None = None) -> list[Claim]:
    claims = [Claim(f"{name}_top1", _best(outcome), goal, "higher")]
    return claims if minutes is None else [*claims, Claim(f"{name}_minutes", outcome.seconds / 60, minutes, "lower")]


def _best(outcome: SearchOutcome, macs: float = float("inf")) -> float:
    """Test accuracy of the network selected on the selection split, within `macs`."""
    fit = [point for point in _front(outcome.points) if point.metrics["macs"] <= macs]
    return max(fit, key=lambda point: point.metrics["selection_top1"]).metrics["top1"] if fit else 0.0


def _front(points: Iterable[Point]) -> list[Point]:
    """The networks measured on the test split: the front before and after the polish."""
    return [point for point in points if point.role == "candidate" and "top1" in point.metrics]


def _volume(points: Sequence[Point]) -> float:
    """Hypervolume by selection accuracy, with the same bounds for all."""
    metrics = [point.metrics for point in points]
    return hypervolume(metrics, macs=(4e6, 1e8), classes=10)


def _row(points: Iterable[Point]) -> dict[str, dict[str, float]]:
    return {
        point.key: {"mmacs": round(point.metrics["macs"] / 1e6, 2), "top1": round(point.metrics["top1"], 4)}
        for point in sorted(points, key=lambda point: point.metrics["macs"])
    }


def _gains(outcome: SearchOutcome) -> dict[str, float]:
    return {p.key: round(p.metrics["polish_gain"], 4) for p in outcome.points if "polish_gain" in p.metrics}


if __name__ == "__main__":
    run_on_data(main)
