"""Measurement trials around the trials of a method, and their results in its specification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretofit.search import trials
from paretofit.search.contracts.latency import Latency, Table
from paretofit.search.contracts.plan import NewTrial, Plan, TrialArtifact, TrialRecord, TrialState
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.start import StartRecord
from paretofit.search.contracts.trial import Trial
from paretofit.search.data.store import Dataset
from paretofit.search.latency import stage
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from tests.search.methods.fd_mobilenet.conftest import resolved
from tests.search.methods.shape_adaptor.test_params import point

ORT, NCNN = "onnxruntime-cpu-1t", "ncnn-cpu-1t"
DEVICES = ORT, "torch-cpu-1t"


def table(spec: ResolvedSpec, device: str, factor: float = 1e-6) -> Table:
    """Latencies proportional to the MACs."""
    latencies = {
        c.key: Latency(median_ms=factor * c.cost["macs"], p95_ms=2 * factor * c.cost["macs"], runs=60)
        for c in spec.candidates()
    }
    return Table(device=device, machine={"processor": "p"}, latencies=latencies)


def bounded(dataset: Path, *bounds: tuple[str, float], **changes: Any) -> ResolvedSpec:
    constraints = [{"metric": "latency_ms", "device": device, "value": value} for device, value in bounds]
    return resolved(dataset, constraints=constraints, **changes)


def with_method(
    dataset: Path, method: dict[str, Any], start: StartRecord | None = None, **changes: Any
) -> ResolvedSpec:
    """A search with another method."""
    body = {"name": "other", "dataset_id": "local", "method": method, **changes}
    return SearchSpec.model_validate(body).resolve(Dataset.open(dataset).profile, start)


def measurement(number: int, device: str, state: TrialState, latencies: Table | None = None) -> TrialRecord:
    outputs = None if latencies is None else {"table": latencies.model_dump(mode="json")}
    return TrialRecord(number=number, state=state, params={"stage": "latency", "device": device}, outputs=outputs)


def plan(spec: ResolvedSpec, history: list[TrialRecord]) -> Plan:
    return trials.plan(spec, history)


def test_every_device_is_measured_before_training(stripes: Path) -> None:
    objectives = [{"metric": "selection_top1"}, {"metric": "latency_ms", "device": NCNN}]
    spec = bounded(stripes, (ORT, 1e6), objectives=objectives)
    first = plan(spec, [])
    assert first == Plan(trials=(NewTrial(params={"stage": "latency", "device": ORT}, device=ORT),))
    assert plan(spec, [measurement(0, ORT, "running")]) == Plan()
    history = [measurement(0, ORT, "completed", table(spec, ORT))]
    second = plan(spec, history)
    assert second.trials[0].device == NCNN
    assert second.trials[0].inputs == {"latency-0": TrialArtifact(trial=0, artifact="latency.json")}
    history.append(measurement(1, NCNN, "completed", table(spec, NCNN)))
    planned = plan(spec, history)
    assert {"config", "epochs"} <= planned.trials[0].params.keys()
    assert planned.trials[0].inputs.keys() == {"latency-0", "latency-1"}
    assert planned.trials[0].device is None


@pytest.mark.parametrize("state", ["infeasible", "failed", "cancelled"])
def test_search_ends_after_a_failed_or_infeasible_measurement(stripes: Path, state: TrialState) -> None:
    assert plan(bounded(stripes, (ORT, 1.0)), [measurement(0, ORT, state)]) == Plan(done=True)


def test_only_networks_within_the_bound_are_trained(stripes: Path) -> None:
    free = resolved(stripes)
    macs = sorted(candidate.cost["macs"] for candidate in free.candidates())
    spec = bounded(stripes, (ORT, 1e-6 * macs[2]))
    history = [measurement(0, ORT, "completed", table(spec, ORT))]
    while trials := plan(spec, history).trials:
        for new in trials:
            history.append(TrialRecord(number=len(history), state="completed", params=new.params, outputs={}))
    assert len(history) == 1 + 3
    assert all(free.candidate(record.params["config"]).cost["macs"] <= macs[2] for record in history[1:])


def test_artifact_references_skip_initial_measurement_trials(stripes: Path) -> None:
    method = {"kind": "mutualnet", "family": "wrn_10_1", "base_width": 1.0, "resolutions": [16], "batch_size": 16}
    method |= {"epochs": 20, "polish": 6, "polish_networks": 1}
    spec = with_method(stripes, method, constraints=[{"metric": "latency_ms", "device": ORT, "value": 1e6}])
    history = [measurement(0, ORT, "completed", table(spec, ORT))]
    [train] = plan(spec, history).trials
    assert train.params == {"stage": "train", "epochs": 20}
    history.append(TrialRecord(number=1, state="completed", params=train.params, outputs={}))
    [sweep] = plan(spec, history).trials
    assert sweep.inputs["supernet"] == TrialArtifact(trial=1, artifact="supernet")
    assert sweep.inputs["latency-0"] == TrialArtifact(trial=0, artifact="latency.json")
    config = {"width": 1.0, "resolution": 16}
    outputs = {"polish": {"teacher": config, "networks": [config]}}
    history.append(TrialRecord(number=2, state="completed", params=sweep.params, outputs=outputs))
    [polish] = plan(spec, history).trials
    assert polish.params["config"] == config
    assert polish.inputs["supernet"] == TrialArtifact(trial=2, artifact="supernet")


def test_measured_latencies_become_candidate_costs(stripes: Path) -> None:
    spec = bounded(stripes, (ORT, 1e-9))
    assert len(spec.feasible()) == len(spec.candidates())
    measured = table(spec, ORT)
    missing = spec.candidates()[0].key
    known = {key: value for key, value in measured.latencies.items() if key != missing}
    informed = stage.with_tables(spec, [measured.model_copy(update={"latencies": known})])
    assert informed.feasible() == []
    assert f"latency_ms:{ORT}" not in informed.candidates()[0].cost
    other = informed.candidates()[1]
    assert informed.candidate(other.config) == other
    assert other.cost[f"latency_p95_ms:{ORT}"] == 2 * other.cost[f"latency_ms:{ORT}"]
    assert ResolvedSpec.model_validate_json(informed.model_dump_json()) == spec


def learning(dataset: Path, **changes: Any) -> ResolvedSpec:
    """A search on two devices, with a method whose networks are learned."""
    objectives = [{"metric": "selection_top1"}, *({"metric": "latency_ms", "device": each} for each in DEVICES)]
    method = {"kind": "spatial_sampling", "family": "wrn_10_1", "trials": 3, "parallel_trials": 1, "batch_size": 16}
    return with_method(dataset, method, objectives=objectives, **changes)


class FinishedTrials:
    """History of a search, extended one trial at a time."""

    def __init__(self, spec: ResolvedSpec) -> None:
        self.records = [measurement(i, each, "completed", table(spec, each)) for i, each in enumerate(DEVICES)]

    def end(self, new: NewTrial, state: TrialState = "completed", top1: float | None = None) -> None:
        names = {"unmeasured": ["a.safetensors"]} if stage.OF not in new.params else {}
        points = () if top1 is None else ({"selection_top1": top1, **{f"latency_ms:{each}": 1.0 for each in DEVICES}},)
        number = len(self.records)
        self.records.append(TrialRecord(number=number, state=state, params=new.params, outputs=names, points=points))


def test_learned_networks_are_measured_on_each_device_in_sequence(stripes: Path) -> None:
    spec = learning(stripes)
    history = FinishedTrials(spec)
    [first] = plan(spec, history.records).trials
    history.end(first)
    [measured] = plan(spec, history.records).trials
    networks = ["a.safetensors"]
    assert measured.params == {"stage": "latency", "device": DEVICES[0], "of": 2, "networks": networks}
    assert (measured.device, measured.inputs) == (
        DEVICES[0],
        {networks[0]: TrialArtifact(trial=2, artifact=networks[0])},
    )
    # The method's trial counts as active until its measurement ends.
    running = TrialRecord(number=3, state="running", params=measured.params)
    assert plan(spec, [*history.records, running]) == Plan()
    history.end(measured)
    [second_measurement] = plan(spec, history.records).trials
    assert (second_measurement.device, second_measurement.inputs[networks[0]].trial) == (DEVICES[1], 3)
    history.end(second_measurement, top1=0.5)
    [second] = plan(spec, history.records).trials
    assert second.params["config"] != first.params["config"]
    assert second.inputs.keys() == {"latency-0", "latency-1"}


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_failed_measurements_do_not_end_the_search(stripes: Path, state: TrialState) -> None:
    spec = learning(stripes)
    history = FinishedTrials(spec)
    while trials := plan(spec, history.records).trials:
        [new] = trials
        history.end(new, state if stage.measures(new.params) else "completed")
    assert plan(spec, history.records).done
    assert [record.state for record in history.records[2:]] == ["completed", state] * 3


def test_trial_limit_reserves_trials_for_measurement(stripes: Path) -> None:
    limited = learning(stripes, limits={"max_trials": 9})
    assert limited.least_trials == 5
    history = FinishedTrials(limited)
    while trials := plan(limited, history.records).trials:
        history.end(trials[0], top1=0.5)
    # Two networks, each measured twice; the limit leaves no trials to measure a third.
    assert len(history.records) == 2 + 2 * 3
    assert plan(limited, history.records) == Plan(done=True, stop_reason="max_trials")


def test_artifact_references_skip_interleaved_measurement_trials(stripes: Path) -> None:
    objectives = [objective.model_dump() for objective in learning(stripes).objectives]
    method = {"kind": "shape_adaptor", "families": ["wrn_10_1"], "modes": ["autotl"], "targets": [0], "batch_size": 16}
    spec = with_method(stripes, method, objectives=objectives)
    history = FinishedTrials(spec)
    for _ in range(3):
        [new] = plan(spec, history.records).trials
        history.end(new, top1=0.5)
    [learn] = plan(spec, history.records).trials
    assert learn.inputs["pretrained"].trial == 2

    network = spec.params(ShapeAdaptorParams).designed(spec.dataset, "wrn_10_1")
    from_start = with_method(
        stripes, method | {"init_from": "pt_x", "human": False}, point(network), objectives=objectives
    )
    [learn] = plan(from_start, FinishedTrials(from_start).records).trials
    assert learn.inputs["start"] == TrialArtifact(trial=None, artifact="initial.safetensors")
    assert "pretrained" not in learn.inputs
    [measure, *_] = plan(from_start, []).trials
    assert "start" not in measure.inputs


@pytest.mark.parametrize("first", ["latency-0", "latency-learned"])
def test_latencies_of_learned_networks_take_precedence(stripes: Path, tmp_path: Path, first: str) -> None:
    spec = bounded(stripes, (ORT, 1e6))
    files = {}
    for name, factor in {"latency-0": 1e-6, "latency-learned": 3e-6}.items():
        files[name] = tmp_path / name
        files[name].write_text(table(spec, ORT, factor).model_dump_json())
    inputs = dict(sorted(files.items(), key=lambda each: each[0] != first)) | {"seed": tmp_path}
    trial = Trial(number=2, spec=spec, params={}, dataset=stripes, work=tmp_path, inputs=inputs)
    informed = stage.informed(trial)
    assert informed.inputs == {"seed": tmp_path}
    for candidate in informed.spec.candidates():
        assert candidate.cost[f"latency_ms:{ORT}"] == pytest.approx(3e-6 * candidate.cost["macs"])
