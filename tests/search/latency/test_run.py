"""Trials that measure latencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from paretofit.models.build import build
from paretofit.models.families.registry import architecture
from paretofit.models.kinds.sampling import Policy, sampled
from paretofit.models.layers.spatial_sampling import samplings
from paretofit.search.contracts.latency import DEVICES, Latency, Measured, read_table, write_known
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop, Trial, TrialEndedError
from paretofit.search.latency.devices import describe, offered
from paretofit.search.latency.prepare import Sample, prepare, untrained
from paretofit.search.latency.run import run
from paretofit.search.latency.stage import KNOWN, LATENCY_FILE
from paretofit.search.local import LocalSearch
from paretofit.search.local_folder import LocalSearchError
from tests.search.methods.fd_mobilenet.conftest import resolved
from tests.search.recorder import Recorder

TORCH = "torch-cpu-1t"
SMALL = {"families": ["fd_mobilenet"], "widths": [0.1, 0.25], "resolutions": [12], "trials": 2, "epochs": 1}


def bounded(dataset: Path, value: float, device: str = TORCH) -> ResolvedSpec:
    constraints = [{"metric": "latency_ms", "device": device, "value": value}]
    return resolved(dataset, method=SMALL, constraints=constraints)


def trial(spec: ResolvedSpec, dataset: Path, folder: Path, **changes: Any) -> Trial:
    work = folder / "work"
    work.mkdir(parents=True)
    params = {"stage": "latency", "device": spec.devices[0]}
    return replace(Trial(number=0, spec=spec, params=params, dataset=dataset, work=work), **changes)


@pytest.mark.parametrize("name", ["onnxruntime-cpu-1t", "ncnn-cpu-1t", "torch-cpu-1t"])
def test_every_runtime_runs_a_prepared_network(name: str, tmp_path: Path) -> None:
    assert name in offered("cpu")
    network = architecture("fd_shufflenet", width=0.25, nominal=32, classes=5)
    prepare(network, (32, 24), 1, DEVICES[name], tmp_path)()
    assert describe(name)["cores"] >= 1


def test_untrained_masks_match_their_densities(tmp_path: Path) -> None:
    size = (64, 64)
    network = sampled(
        architecture("resnet18", base_width=0.25, nominal=224, classes=5), Policy(density=0.3, fill="zero", grid=0)
    )
    sample = untrained(network, size, 2)
    assert sample.images.shape == (2, 3, *size)
    for mask in samplings(sample.network):
        logits = mask.predict(torch.randn(1, mask.predict.in_channels, 8, 8))
        assert torch.allclose(logits.sigmoid(), torch.tensor(0.3), atol=1e-4)
    # Untrained, and with a trained network.
    prepare(network, size, 2, DEVICES[TORCH], tmp_path)()
    prepare(network, size, 2, DEVICES[TORCH], tmp_path, Sample(build(network).eval(), sample.images))()


def test_scalenet_runs_in_torch(tmp_path: Path) -> None:
    prepare(architecture("scalenet20", base_width=0.5, nominal=32), (32, 24), 1, DEVICES[TORCH], tmp_path)()


@pytest.mark.gpu
def test_prepared_network_runs_on_the_gpu(tmp_path: Path) -> None:
    prepare(architecture("fd_mobilenet", nominal=32), (32, 32), 1, DEVICES["torch-cuda"], tmp_path)()


def test_candidates_are_measured_and_reported(stripes: Path, tmp_path: Path) -> None:
    spec = bounded(stripes, 1e6)
    recorder = Recorder(tmp_path)
    threads = torch.get_num_threads()
    outputs = run(trial(spec, stripes, tmp_path), recorder)
    assert torch.get_num_threads() == threads
    table = read_table(recorder.artifacts[LATENCY_FILE])
    assert table.latencies.keys() == {candidate.key for candidate in spec.candidates()}
    assert table.machine == describe(TORCH)
    assert outputs["table"] == table.model_dump(mode="json")
    assert [each.latency for each in recorder.latencies] == list(table.latencies.values())
    keys = {spec.method.network(spec.dataset, candidate.config).key for candidate in spec.candidates()}
    assert {each.architecture for each in recorder.latencies} == keys


def test_known_latencies_are_not_measured_again(stripes: Path, tmp_path: Path) -> None:
    spec = bounded(stripes, 1e6)
    candidate, _ = spec.candidates()
    known = Measured(
        architecture=spec.method.network(spec.dataset, candidate.config).key,
        input_size=candidate.input_size,
        device=TORCH,
        machine=describe(TORCH),
        latency=Latency(median_ms=123, p95_ms=456, runs=7),
    )
    other_machine = known.model_copy(
        update={"machine": {"processor": "another"}, "latency": Latency(median_ms=1, p95_ms=1, runs=1)}
    )
    path = tmp_path / "known"
    write_known(path, [other_machine, known])
    recorder = Recorder(tmp_path)
    run(trial(spec, stripes, tmp_path, inputs={KNOWN: path}), recorder)
    latencies = read_table(recorder.artifacts[LATENCY_FILE]).latencies
    assert len(latencies) == 2
    assert latencies[candidate.key] == known.latency
    assert len(recorder.latencies) == 1


def test_infeasible_bound_error_names_the_fastest_network(stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    with pytest.raises(TrialEndedError, match="the fastest measured one is fd_mobilenet-w0") as error:
        run(trial(bounded(stripes, 1e-6), stripes, tmp_path), recorder)
    assert error.value.state == "infeasible"
    assert error.value.error is not None
    [nearest] = error.value.error["nearest"]
    latencies = {each.latency.median_ms for each in recorder.latencies}
    assert (nearest["device"], nearest["value"]) == (TORCH, min(latencies))


@pytest.mark.parametrize("stop", [Stop.CANCEL, Stop.DRAIN])
def test_stop_request_ends_the_measurement_immediately(stripes: Path, tmp_path: Path, stop: Stop) -> None:
    recorder = Recorder(tmp_path, stop=lambda checks: stop)
    assert run(trial(bounded(stripes, 1e6), stripes, tmp_path), recorder) == {}
    assert not recorder.artifacts


def _run(
    spec: ResolvedSpec, dataset: Path, folder: Path, on_progress: Callable[[int, float], None]
) -> list[dict[str, float]]:
    return [point.metrics for point in LocalSearch(spec, dataset, folder).run(lambda: Stop.NO, on_progress).points]


def test_local_search_reports_points_with_latencies(stripes: Path, tmp_path: Path) -> None:
    for metrics in _run(bounded(stripes, 1e6), stripes, tmp_path, lambda trial, fraction: None):
        assert 0 < metrics[f"latency_ms:{TORCH}"] <= metrics[f"latency_p95_ms:{TORCH}"]


def test_local_search_fails_before_training_if_bounds_are_infeasible(stripes: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalSearchError, match="the fastest measured one"):
        _run(bounded(stripes, 1e-6), stripes, tmp_path, lambda trial, fraction: None)
