"""Contract of every registered method, as far as it can be tested without the service."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median_low

import pytest

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost
from paretofit.search import trials
from paretofit.search.contracts.latency import Latency, Table
from paretofit.search.contracts.plan import NewTrial, Plan, TrialArtifact, TrialRecord, TrialState
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import Constraint, ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.local import LocalSearch
from paretofit.search.pareto import nondominated
from paretofit.search.registry import Method, methods
from tests.search.conftest import write_stripes

MOST_TRIALS = 200
DEVICE = "torch-cpu-1t"


@pytest.fixture(scope="module", params=sorted(methods()))
def method(request: pytest.FixtureRequest) -> Method:
    return methods()[request.param]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes of 32 pixels."""
    return write_stripes(tmp_path_factory.mktemp("contract") / "dataset", 32)


@pytest.fixture(scope="module")
def spec(method: Method, dataset: Path) -> ResolvedSpec:
    """The method's tiny search."""
    body = {"name": "contract", "dataset_id": "local", "method": {"kind": method.kind, **method.params.tiny}, "seed": 7}
    return SearchSpec.model_validate(body).resolve(Dataset.open(dataset).profile)


def test_parameters_are_documented_and_presets_valid(method: Method) -> None:
    assert method.params.summary
    assert method.params.paper
    for name, field in method.params.model_fields.items():
        assert field.description or name == "kind", f"{name} has no description"
    for preset in (method.params.tiny, *method.params.presets.values()):
        assert method.params.model_validate(preset).kind == method.kind


@pytest.mark.parametrize("side", [32, 224])
def test_presets_can_be_searched(method: Method, spec: ResolvedSpec, side: int) -> None:
    images = {"train": 60_000, "selection": 5000, "report": 10_000}
    profile = spec.dataset.model_copy(update={"image_size": (side, side), "images": images, "channels": 3})
    for name, preset in method.params.presets.items():
        if name in {32: ("small", "cifar"), 224: ("small", "imagenet")}[side]:
            body = {"name": name, "dataset_id": "local", "method": {"kind": method.kind, **preset}}
            resolved = SearchSpec.model_validate(body).resolve(profile)
            assert resolved.feasible(), name
            assert resolved.method.planned_epochs(profile) > 0


def test_candidates_are_deterministic_and_have_costs(spec: ResolvedSpec) -> None:
    candidates = spec.candidates()
    assert candidates
    assert candidates == ResolvedSpec.model_validate_json(spec.model_dump_json()).candidates()
    assert len({candidate.key for candidate in candidates}) == len(candidates)
    for candidate in candidates:
        assert candidate.cost.keys() == {"macs", "pool_inputs", "params", "peak_activation_bytes"}
        assert min(candidate.cost.values()) > 0


def test_plan_is_pure_and_resumes_from_any_history_prefix(method: Method, spec: ResolvedSpec) -> None:
    before = spec.model_dump_json()
    for history in _histories(method, spec):
        copied = [record.model_copy(deep=True) for record in history]
        reloaded = [TrialRecord.model_validate_json(record.model_dump_json()) for record in history]
        assert trials.plan(spec, history) == trials.plan(spec, reloaded)
        assert history == copied
    assert spec.model_dump_json() == before


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_plan_ends_when_every_trial_fails(method: Method, spec: ResolvedSpec, state: TrialState) -> None:
    *_, last = _histories(method, spec, ends=state)
    assert len(last) < MOST_TRIALS


def test_planning_does_not_import_torch(method: Method, spec: ResolvedSpec) -> None:
    program = (
        "import sys; from paretofit.search import registry, trials\n"
        "from paretofit.search.contracts.spec import ResolvedSpec\n"
        "registry.setup()\n"
        "spec = ResolvedSpec.model_validate_json(sys.stdin.read())\n"
        "print(trials.plan(spec, []).model_dump_json())\n"
        "assert 'torch' not in sys.modules, 'torch is imported'"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], input=spec.model_dump_json(), capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    # Another process gives the same plan.
    assert Plan.model_validate_json(process.stdout) == trials.plan(spec, [])


def test_latency_can_be_objective_and_constraint(method: Method, spec: ResolvedSpec) -> None:
    latency = {"metric": "latency_ms", "device": DEVICE}
    changes = {"objectives": [{"metric": "selection_top1"}, latency], "constraints": [{**latency, "value": 1.0}]}
    timed = ResolvedSpec.model_validate(spec.model_dump() | changes)
    method.params.model_validate(timed.method.model_dump()).check_devices(timed.devices)
    [first] = trials.plan(timed, []).trials
    assert (first.params, first.device) == ({"stage": "latency", "device": DEVICE}, DEVICE)
    networks = {each.key: timed.method.network(timed.dataset, each.config) for each in timed.candidates()}
    assert all(networks[each.key].layers(each.input_size) for each in timed.candidates())

    def planned(milliseconds: float) -> Plan:
        """The plan after all networks were measured at this latency."""
        latency_of_all = Latency(median_ms=milliseconds, p95_ms=milliseconds, runs=60)
        measured = Table(device=DEVICE, machine={}, latencies=dict.fromkeys(networks, latency_of_all))
        outputs = {"table": measured.model_dump(mode="json")}
        return trials.plan(timed, [TrialRecord(number=0, state="completed", params=first.params, outputs=outputs)])

    method_trials = planned(0.5).trials
    assert method_trials
    assert all(new.inputs["latency-0"] == TrialArtifact(trial=0, artifact="latency.json") for new in method_trials)
    assert planned(2.0) == Plan(done=True)


def test_tiny_search_meets_constraints_and_reproduces_reported_metrics(
    spec: ResolvedSpec, dataset: Path, tmp_path: Path
) -> None:
    bound = Constraint(metric="macs", value=median_low(c.cost["macs"] for c in spec.candidates()))
    constrained = spec.model_copy(update={"constraints": (bound,)})
    front = LocalSearch(constrained, dataset, tmp_path).run(lambda: Stop.NO, lambda trial, fraction: None)
    assert front.finished
    assert front.points
    all_points = [
        Point.model_validate(point)
        for trial in json.loads((tmp_path / "search.json").read_text())["trials"]
        for point in trial["points"].values()
    ]
    assert all(bound.holds(point.metrics) for point in all_points)
    expected = {all_points[i].key for i in nondominated([point.metrics for point in all_points])}
    assert {point.key for point in front.points} == expected

    data = Dataset.open(dataset)
    for point in front.points:
        path = tmp_path / "points" / f"{point.key}.safetensors"
        assert Point.model_validate(checkpoint.read_record(path)) == point
        costs = cost(Architecture.from_json(point.architecture), point.input_size).as_dict()
        assert {name: point.metrics[name] for name in costs} == costs
        reevaluated = reevaluate(path, data)
        assert (reevaluated.top1, reevaluated.equal) == (point.metrics["top1"], True)


def _histories(method: Method, spec: ResolvedSpec, ends: TrialState = "completed") -> Iterator[list[TrialRecord]]:
    """All histories of a search whose trials run in sequence, end in the same state and report nothing."""
    created: list[tuple[NewTrial, TrialState]] = []

    def history() -> list[TrialRecord]:
        return [
            TrialRecord(number=number, state=state, params=new.params, outputs={} if state == "completed" else None)
            for number, (new, state) in enumerate(created)
        ]

    while len(created) < MOST_TRIALS:
        yield history()
        plan = trials.plan(spec, history())
        first = len(created)
        created += [(new, "queued") for new in plan.trials]
        if not plan.trials:
            assert plan.done, "no trial is active or planned, but the plan is not done"
            return
        for number in range(first, len(created)):
            for state in ("running", ends):
                yield history()
                created[number] = (created[number][0], state)
        if plan.done:
            yield history()
            assert not trials.plan(spec, history()).trials
            return
