"""Selection, order and length of planned trainings."""

from __future__ import annotations

from typing import Any

import pytest

from paretofit.models.families.registry import architecture
from paretofit.models.families.shapes import Shape
from paretofit.search.contracts.plan import START, TrialArtifact, TrialRecord, TrialState
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.methods.shape_adaptor import budget
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.plan import plan
from paretofit.search.methods.shape_adaptor.space import key
from paretofit.search.trials import plan as next_trials
from tests.search.methods.shape_adaptor.test_params import DATASET, point

METHOD: dict[str, Any] = {"kind": "shape_adaptor", "base_width": 0.25, "trials": 3, "epochs": 4, "targets": [1, 2, 4]}


def resolved(method: dict[str, Any] | None = None, **more: Any) -> ResolvedSpec:
    values = METHOD | (method or {})
    return SearchSpec.model_validate({"name": "x", "dataset_id": "d", "method": values, **more}).resolve(DATASET)


def run_plan(spec: ResolvedSpec, ends: TrialState = "completed", *, at_once: int = 1) -> list[TrialRecord]:
    """A search whose trials end `at_once` at a time; networks cost their target, costlier ones are more accurate."""
    history: list[TrialRecord] = []
    while True:
        planned = plan(spec, history)
        for new in planned.trials:
            history.append(TrialRecord(number=len(history), state="queued", params=new.params))
        under_way = [record for record in history if record.state == "queued"]
        if not under_way:
            assert planned.done
            return history
        for record in under_way[:at_once]:
            macs = budget.macs(spec, record.params["config"] | {"target": 1.0}) or 1.0
            metrics = {"macs": macs, "selection_top1": record.params["config"].get("target", 0) / 100}
            points = (metrics,) if ends == "completed" and record.params["stage"] == "learn" else ()
            history[record.number] = record.model_copy(update={"state": ends, "outputs": {}, "points": points})


def keys(history: list[TrialRecord]) -> list[str]:
    return [key(record.params["config"]) for record in history]


def test_learned_then_human_designed_then_random_shapes() -> None:
    history = run_plan(resolved({"random_shapes": 2, "targets": [1, 4], "trials": 2}))
    assert keys(history) == [
        "vgg16-standard-a4-d8-m1",
        "vgg16-standard-a4-d8-m4",
        "human-vgg16",
        "vgg16-random-a4-m1-0",
        "vgg16-random-a4-m1-1",
        "vgg16-random-a4-m4-0",
        "vgg16-random-a4-m4-1",
    ]
    assert [record.params["stage"] for record in history] == ["learn"] * 2 + ["compare"] * 5


def test_random_shapes_cost_the_target() -> None:
    spec = resolved({"random_shapes": 3, "targets": [1, 2], "human": False})
    configs = [record.params["config"] for record in run_plan(spec) if record.params["stage"] == "compare"]
    lines = [config["shape"] for config in configs]
    assert len(set(lines)) == 6
    for config in configs:
        target = budget.macs(spec, config)
        assert target is not None
        assert 0.95 * target <= spec.candidate(config).cost["macs"] <= target
        assert all(0 < blend < 1 for blend in Shape.from_line(config["shape"]).blends)
    other = run_plan(resolved({"random_shapes": 3, "targets": [1, 2], "human": False}, seed=1))
    assert lines != [record.params["config"]["shape"] for record in other if "shape" in record.params["config"]]


def test_parallel_trials_are_limited() -> None:
    spec = resolved({"parallel_trials": 2})
    first = plan(spec, [])
    assert len(first.trials) == 2
    assert not first.done
    running = [TrialRecord(number=i, state="running", params=new.params) for i, new in enumerate(first.trials)]
    assert plan(spec, running).trials == ()


def test_every_combination_is_trained_once() -> None:
    spec = resolved(
        {
            "families": ["vgg16", "wrn_16_2"],
            "modes": ["standard", "autosc"],
            "adaptors": [4],
            "last_sides": [4, 8],
            "targets": [0, 8],
            "trials": 1000,
            "human": False,
        }
    )
    trained = keys(run_plan(spec, at_once=3))
    assert len(set(trained)) == len(trained) == len(spec.params(ShapeAdaptorParams).configs(DATASET)) == 10
    some = resolved({**spec.method.model_dump(exclude={"kind"}), "trials": 9})
    assert keys(run_plan(some)) == keys(run_plan(some))


def test_transfer_waits_for_its_starting_weights() -> None:
    spec = resolved({"modes": ["autotl", "standard"], "families": ["vgg16", "resnet18"], "targets": [0], "trials": 4})
    first = plan(spec, [])
    assert [key(new.params["config"]) for new in first.trials] == ["human-vgg16", "human-resnet18"]
    history = [TrialRecord(number=i, state="running", params=new.params) for i, new in enumerate(first.trials)]
    assert plan(spec, history).trials == ()
    finished = [history[0].model_copy(update={"state": "completed"}), history[1].model_copy(update={"state": "failed"})]
    following = plan(spec, finished)
    inputs = {key(new.params["config"]): new.inputs for new in following.trials}
    source = inputs.pop("vgg16-autotl-a5-free")["pretrained"]
    assert (source.trial, source.artifact) == (0, "human-vgg16.safetensors")
    # Without starting weights there is nothing to transfer.
    assert inputs == {"vgg16-standard-a4-d8-free": {}, "resnet18-standard-a4-d8-free": {}}


def test_transfer_from_existing_weights_needs_no_training_first() -> None:
    method = {"modes": ["autotl", "standard"], "targets": [0], "trials": 2, "init_from": "pt_x"}
    body = {"name": "x", "dataset_id": "d", "method": METHOD | method}
    start = point(architecture("vgg16", base_width=0.25, nominal=32, channels=1, classes=3))
    spec = SearchSpec.model_validate(body).resolve(DATASET, start)
    planned = {key(new.params["config"]): new.inputs for new in next_trials(spec, []).trials}
    # Baselines start from the same weights, in any mode.
    weights = {START: TrialArtifact(trial=None, artifact="initial.safetensors")}
    assert planned == dict.fromkeys(("vgg16-autotl-a5-free", "vgg16-standard-a4-d8-free", "human-vgg16"), weights)
    assert len(run_plan(spec, "failed")) == 3
    assert spec.least_trials == spec.method.least_epochs == 1


@pytest.mark.parametrize("most", [1, 2, 3, 4])
@pytest.mark.parametrize("ends", ["completed", "failed"])
def test_transfer_search_ends_at_the_epoch_limit(most: int, ends: TrialState) -> None:
    """Two networks are trained first, for one epoch each."""
    method = {"modes": ["autotl"], "families": ["vgg16", "resnet18"], "targets": [0], "trials": 2}
    spec = resolved(method, limits={"max_epochs": most})
    history = run_plan(spec, ends)
    learned = [record for record in history if record.params["stage"] == "learn"]
    assert len(history) - len(learned) == min(most, 2)
    assert len(learned) == (max(0, most - 2) if ends == "completed" else 0)


@pytest.mark.parametrize(
    ("method", "least"),
    [({}, 1), ({"modes": ["autotl"]}, 2), ({"modes": ["standard", "autotl"], "families": ["vgg16", "resnet18"]}, 3)],
)
def test_limits_without_a_learned_network_are_rejected(method: dict[str, Any], least: int) -> None:
    for field, unit in (("max_trials", "trials"), ("max_epochs", "epochs")):
        assert resolved(method, limits={field: least}).low_limit() is None
        if least > 1:
            assert resolved(method, limits={field: least - 1}).low_limit() == (
                field,
                f"shape_adaptor needs at least {least} {unit} to find a network: use at least {least}, or no limit",
            )
    measured = resolved(method, constraints=[{"metric": "latency_ms", "device": "onnxruntime-cpu-1t", "value": 1}])
    # Each training is followed by a measurement, and the first trial is a measurement.
    assert measured.least_trials == 1 + 2 * least


@pytest.mark.parametrize(
    ("most", "expected"), [(None, [4, 4, 4, 4]), (16, [4, 4, 4, 4]), (10, [3, 3, 2, 2]), (3, [1, 1, 1])]
)
def test_epochs_are_distributed_over_trials(most: int | None, expected: list[int]) -> None:
    spec = resolved(limits={} if most is None else {"max_epochs": most})
    assert [record.params["epochs"] for record in run_plan(spec)] == expected


def test_constraint_caps_all_targets() -> None:
    human = resolved().params(ShapeAdaptorParams).space(DATASET, {"family": "vgg16", "target": 1.0}).target_macs
    assert human is not None
    spec = resolved({"targets": [0, 1, 2, 4]}, constraints=[{"metric": "macs", "value": 1.5 * human}])
    configs = [record.params["config"] for record in run_plan(spec) if record.params["stage"] == "learn"]
    assert sorted(budget.macs(spec, config) or 0 for config in configs) == [human, 1.5 * human]
    # An infeasible human-designed network is not a baseline, and without feasible networks nothing is trained.
    less = [{"metric": "macs", "value": 0.98 * human}]
    assert "human-vgg16" not in keys(run_plan(resolved({"targets": [0]}, constraints=less)))
    assert run_plan(resolved({"targets": [0]}, constraints=[{"metric": "macs", "value": 1}])) == []
    rule = spec.params(ShapeAdaptorParams).space(DATASET, configs[0]).rule
    fits = budget.fits(spec, configs[0], rule)
    assert not fits(((32, 40),) * 4)
    small = resolved({"targets": [0]}, constraints=[{"metric": "peak_activation_bytes", "value": 150_000}])
    config = small.params(ShapeAdaptorParams).configs(DATASET)[0]
    fits = budget.fits(small, config, rule)
    assert fits(((16, 20), (8, 10), (4, 5), (2, 2)))
    assert not fits(((32, 40),) * 4)
