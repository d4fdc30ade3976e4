"""Shapes under a latency bound: targets derived from other shapes' latencies, and measurements after training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paretofit.models import checkpoint
from paretofit.models.families.shapes import Shape
from paretofit.search.contracts.latency import Latency, Table
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.latency.stage import with_tables
from paretofit.search.local import LocalSearch
from paretofit.search.local_folder import LocalSearchError
from paretofit.search.methods.shape_adaptor import budget
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.plan import plan
from tests.search.methods.shape_adaptor.test_params import DATASET
from tests.search.methods.shape_adaptor.test_run import METHOD

DEVICE = "torch-cpu-1t"
METRIC = f"latency_ms:{DEVICE}"
LATENCY = {"metric": "latency_ms", "device": DEVICE}


def resolved(method: dict[str, Any], dataset: Path | None = None, bound: float | None = None) -> ResolvedSpec:
    submitted = {
        "name": "fast",
        "dataset_id": "local",
        "method": METHOD | method,
        "objectives": [{"metric": "selection_top1"}, LATENCY],
        "constraints": [] if bound is None else [{**LATENCY, "value": bound}],
    }
    profile = DATASET if dataset is None else Dataset.open(dataset).profile
    return SearchSpec.model_validate(submitted).resolve(profile)


def informed(spec: ResolvedSpec, factor: float = 1e-6) -> ResolvedSpec:
    """The search after latencies proportional to the multiply-accumulates were measured."""
    latencies = {
        each.key: Latency(median_ms=factor * each.cost["macs"], p95_ms=factor * each.cost["macs"], runs=60)
        for each in spec.candidates()
    }
    return with_tables(spec, [Table(device=DEVICE, machine={}, latencies=latencies)])


def test_smallest_and_typical_shapes_of_each_target_are_measured() -> None:
    spec = resolved({"targets": [0, 1, 2], "modes": ["standard", "autosc"]})
    candidates = {each.key: each for each in spec.candidates()}
    assert candidates.keys() == {
        "least-vgg16-standard-a4-d4",
        "like-vgg16-standard-a4-d4-free",
        "like-vgg16-standard-a4-d4-m1",
        "like-vgg16-standard-a4-d4-m2",
        "least-vgg16-autosc-a4",
        "like-vgg16-autosc-a4-free",
    }
    human = spec.params(ShapeAdaptorParams).space(DATASET, {"family": "vgg16", "target": 1.0}).target_macs
    assert human is not None
    for target in (1, 2):
        like = candidates[f"like-vgg16-standard-a4-d4-m{target}"]
        assert 0.95 * target * human <= like.cost["macs"] <= target * human
        assert spec.method.network(DATASET, like.config).layers(like.input_size)
    assert set(Shape.from_line(str(candidates["least-vgg16-standard-a4-d4"].config["shape"])).blends) == {0.5}


def test_latency_bound_is_converted_to_multiply_accumulates() -> None:
    free = resolved({"targets": [1, 4]})
    config, dearer = free.params(ShapeAdaptorParams).configs(DATASET)
    target = free.params(ShapeAdaptorParams).space(DATASET, config).target_macs
    assert target is not None
    spec = informed(resolved({"targets": [1, 4]}, bound=2e-6 * target))
    assert budget.macs(spec, config) == target
    assert budget.macs(spec, dearer) == pytest.approx(2 * target)
    # Other numbers of adaptors have other latencies, and without measurements the bound has no effect.
    assert budget.macs(spec, {**dearer, "adaptors": 5}) == 4 * target
    assert budget.macs(resolved({"targets": [1, 4]}, bound=1e-9), dearer) == 4 * target
    # A bound that not even the smallest shape meets plans no training.
    least = min(each.cost["macs"] for each in spec.candidates())
    assert plan(informed(resolved({}, bound=0.9e-6 * least)), []).trials == ()
    # Two targets that the bound makes equal are learned once.
    same = informed(resolved({"targets": [2, 4], "random_shapes": 0, "human": False}, bound=1.5e-6 * target))
    assert [new.params["config"]["target"] for new in plan(same, []).trials] == [2]


@pytest.mark.integration
def test_learned_shapes_are_measured_before_they_become_points(stripes: Path, tmp_path: Path) -> None:
    spec = resolved({"targets": [2.0]}, stripes, bound=1e5)
    search = LocalSearch(spec, stripes, tmp_path)
    front = search.run(lambda: Stop.NO, lambda trial, fraction: None)
    trials = json.loads((tmp_path / "search.json").read_text())["trials"]
    stages = [trial["new"]["params"] for trial in trials]
    assert [(each["stage"], each.get("of")) for each in stages] == [
        ("latency", None),
        ("learn", None),
        ("compare", None),
        ("compare", None),
        ("latency", 1),
        ("latency", 2),
        ("latency", 3),
    ]
    learned, *baselines = [list(trial["points"]) for trial in trials[4:]]
    key = "vgg16-standard-a4-d4-m2"
    # The learned shape may be too slow, so smaller ones are measured as well.
    assert learned == [key, f"{key}-x0.9", f"{key}-x0.75"]
    assert baselines == [["human-vgg16"], ["vgg16-random-a4-m2-0"]]
    assert front.points
    assert all(point.role == ("candidate" if point.key.startswith(key) else "baseline") for point in search.points())
    for point in front.points:
        assert 0 < point.metrics[METRIC] <= point.metrics[f"latency_p95_ms:{DEVICE}"]
        assert point.provenance["latency"][DEVICE]["machine"]["cores"] >= 1
        path = tmp_path / "points" / f"{point.key}.safetensors"
        assert Point.model_validate(checkpoint.read_record(path)) == point
        assert reevaluate(path, Dataset.open(stripes)).equal


def test_infeasible_bounds_end_the_search_before_training(stripes: Path, tmp_path: Path) -> None:
    search = LocalSearch(resolved({}, stripes, bound=1e-6), stripes, tmp_path)
    with pytest.raises(LocalSearchError, match=r"the fastest measured one is (least|like)-vgg16"):
        search.run(lambda: Stop.NO, lambda trial, fraction: None)
    assert [trial["state"] for trial in json.loads((tmp_path / "search.json").read_text())["trials"]] == ["infeasible"]
