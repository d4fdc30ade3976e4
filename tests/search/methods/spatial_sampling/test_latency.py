"""Masks under a latency bound: densities, and latencies of the resulting networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paretofit.models import checkpoint
from paretofit.search.contracts.latency import Latency, Table
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.latency.stage import with_tables
from paretofit.search.local import LocalSearch
from paretofit.search.local_folder import LocalSearchError
from paretofit.search.methods.spatial_sampling import budget
from paretofit.search.methods.spatial_sampling.params import SpatialSamplingParams, from_line, to_line
from paretofit.search.methods.spatial_sampling.plan import plan
from tests.search.methods.spatial_sampling.test_plan import DATASET
from tests.search.methods.spatial_sampling.test_run import METHOD

DEVICES = SPARSE, OTHER = "torch-cpu-1t", "torch-cpu-all"


def resolved(dataset: Path | None = None, bound: float | None = None, *devices: str, **method: Any) -> ResolvedSpec:
    named = [{"metric": "latency_ms", "device": device} for device in devices or (SPARSE,)]
    submitted = {
        "name": "fast",
        "dataset_id": "local",
        "method": METHOD | {"trials": 1} | method,
        "objectives": [{"metric": "selection_top1"}, *named],
        "constraints": [] if bound is None else [{**named[0], "value": bound}],
    }
    profile = DATASET if dataset is None else Dataset.open(dataset).profile
    return SearchSpec.model_validate(submitted).resolve(profile)


def informed(spec: ResolvedSpec, factor: float = 1e-6) -> ResolvedSpec:
    """The search after latencies proportional to the multiply-accumulates were measured."""
    latencies = {
        each.key: Latency(median_ms=factor * each.cost["macs"], p95_ms=factor * each.cost["macs"], runs=60)
        for each in spec.candidates()
    }
    return with_tables(spec, [Table(device=SPARSE, machine={}, latencies=latencies)])


def test_measured_densities_bound_the_searched_densities() -> None:
    free = resolved()
    assert [each.config["density"] for each in free.candidates()] == [0, 0.25, 0.5, 1]
    most = free.params(SpatialSamplingParams).cost(DATASET, 0.4)["macs"]
    spec = informed(resolved(None, 1e-6 * most))
    name, low, high = budget.axis(spec)
    assert (name, low) == ("density", 0.2)
    assert high == pytest.approx(0.4, abs=1e-3)
    config: dict[str, Any] = {"density": 0.7, "draw": "budget", "mask_seed": 0}
    fits = budget.fitting(spec, config, [0.8, 0.6] * 3)
    assert fits is not None
    macs = spec.method.candidate(DATASET, {**config, "mask_densities": to_line(fits)}).cost["macs"]
    assert 0.99 * most <= macs <= most
    [new] = plan(spec, []).trials
    assert new.params["config"] == {"density": 0.4}
    assert plan(informed(resolved(None, 1e-9)), []).trials == ()


def test_device_without_required_operations_is_rejected(stripes: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalSearchError, match=r"ncnn-cpu-1t cannot run networks with masks.*use one of onnxruntime"):
        LocalSearch(resolved(stripes, None, "ncnn-cpu-1t"), stripes, tmp_path)


@pytest.mark.integration
def test_points_have_the_latencies_of_every_device(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, 1e5, *DEVICES, densities=[0.3, 0.3])
    search = LocalSearch(spec, stripes, tmp_path)
    front = search.run(lambda: Stop.NO, lambda trial, fraction: None)
    trials = json.loads((tmp_path / "search.json").read_text())["trials"]
    measured = [trial["new"]["params"] for trial in trials]
    assert [(each.get("device"), each.get("of")) for each in measured] == [
        (SPARSE, None),
        (OTHER, None),
        (None, None),
        (SPARSE, 2),
        (OTHER, 2),
    ]
    # With a bound, each network is also measured with smaller budgets.
    assert [list(trial["points"]) for trial in trials if trial["points"]] == [
        ["density-0.3", "density-0.3-budget-0.9", "density-0.3-budget-0.75"]
    ]
    assert front.points
    for point in front.points:
        for device in DEVICES:
            assert 0 < point.metrics[f"latency_ms:{device}"] <= point.metrics[f"latency_p95_ms:{device}"]
            assert point.provenance["latency"][device]["batch"] == 1
        assert len(from_line(str(point.config["mask_densities"]))) == 6
        path = tmp_path / "points" / f"{point.key}.safetensors"
        assert Point.model_validate(checkpoint.read_record(path)) == point
        assert reevaluate(path, Dataset.open(stripes)).equal


def test_infeasible_bounds_end_the_search_before_training(stripes: Path, tmp_path: Path) -> None:
    search = LocalSearch(resolved(stripes, 1e-6), stripes, tmp_path)
    with pytest.raises(LocalSearchError, match="met by no network; the fastest measured one is"):
        search.run(lambda: Stop.NO, lambda trial, fraction: None)
    assert [trial["state"] for trial in json.loads((tmp_path / "search.json").read_text())["trials"]] == ["infeasible"]
