"""Runs a measurement trial: latency of each candidate, or of each network that a trial learned, on a device.

The caller holds the machine's lock exclusively (`paretofit.search.latency.lock`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from torch import distributed

from paretofit.core.cpus import available_cpus
from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.kinds.sampling import sampled_blocks
from paretofit.models.trace import Size
from paretofit.search import evaluation
from paretofit.search.contracts.latency import BATCH, DEVICES, Device, Latency, Measured, Table, read_known
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec, metric_key
from paretofit.search.contracts.trial import InterruptedMeasurementError, Reporter, Stop, Trial, TrialEndedError
from paretofit.search.data.store import Dataset
from paretofit.search.latency.clock import timed
from paretofit.search.latency.devices import describe
from paretofit.search.latency.prepare import Sample, prepare
from paretofit.search.latency.stage import KNOWN, LATENCY_FILE, NETWORKS, OF

IMAGES: Final = 4
"""Images that a trained network is measured on, in turn."""
GROUP: Final = 8
"""Number of networks that are measured in turn."""
_AT_ONCE: Final = (Stop.CANCEL, Stop.DRAIN)


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Measure the networks of the trial on its device. Raises like `candidates` and `learned`. Only on rank 0."""
    if distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0:
        return {}
    return learned(trial, reporter) if OF in trial.params else candidates(trial, reporter)


def candidates(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Measure the feasible candidates without a known latency; report each, and all of them as the artifact
    `LATENCY_FILE`.

    Raises TrialEndedError if none meets the bounds on this device, LookupError without its runtime.
    """
    spec, name = trial.spec, trial.params["device"]
    machine = describe(name)
    networks = {
        candidate.key: (spec.method.network(spec.dataset, candidate.config), candidate.input_size)
        for candidate in spec.feasible()
    }
    found = _known(trial, name, machine, networks)
    left = iter([key for key in networks if key not in found])
    while group := list(islice(left, GROUP)):
        if found and reporter.should_stop() is Stop.LIMIT:
            break
        try:
            found |= zip(group, measure([networks[key] for key in group], name, trial.work, reporter), strict=True)
        except InterruptedMeasurementError:
            return {}
        reporter.metric("progress", len(found), len(found) / len(networks))
    measured = Table(device=name, machine=machine, latencies=found)
    path = trial.work / LATENCY_FILE
    path.write_text(measured.model_dump_json(), encoding="utf-8")
    reporter.artifact(LATENCY_FILE, path)
    outputs = {"table": measured.model_dump(mode="json"), "measured": len(found)}
    informed = spec.model_copy(update={"latencies": {**spec.latencies, name: measured}})
    if networks and len(found) == len(networks) and not informed.feasible():
        raise TrialEndedError("infeasible", outputs, _infeasible(informed, name))
    return outputs


def learned(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Measure the networks in another trial's checkpoints, and write these again with their latencies; on the last of
    the search's devices also report their points. Raises LookupError without the device's runtime."""
    name = trial.params["device"]
    files = {each: trial.inputs[each] for each in trial.params[NETWORKS]}
    points = [Point.model_validate(checkpoint.read_record(file)) for file in files.values()]
    samples = [_sample(trial, file, point) for file, point in zip(files.values(), points, strict=True)]
    networks = [(Architecture.from_json(point.architecture), point.input_size) for point in points]
    found: list[Latency] = []
    try:
        for start in range(0, len(networks), GROUP):
            part = slice(start, start + GROUP)
            found += measure(networks[part], name, trial.work, reporter, samples[part])
            reporter.metric("progress", len(found), len(found) / len(networks))
    except InterruptedMeasurementError:
        return {}
    for (file, source), point, latency in zip(files.items(), points, found, strict=True):
        measured = _with_latency(point, name, latency)
        tensors, _ = checkpoint.read(source)
        checkpoint.write(trial.work / file, tensors, measured.model_dump(mode="json"))
        reporter.artifact(file, trial.work / file)
        if name == trial.spec.devices[-1]:
            reporter.point(measured)
    return {"measured": len(found)}


def _sample(trial: Trial, file: Path, point: Point) -> Sample | None:
    """For a network whose masks decide what it computes."""
    if not sampled_blocks(Architecture.from_json(point.architecture)):
        return None
    dataset = Dataset.open(trial.dataset)
    rows = np.arange(min(IMAGES, len(dataset.split("selection"))))
    [(images, _)] = evaluation.inputs(
        dataset, "selection", point.preprocessing, point.evaluation, point.input_size, device="cpu", rows=rows
    )
    return Sample(checkpoint.load(file), images)


def _with_latency(point: Point, device: str, latency: Latency) -> Point:
    metrics = {
        **point.metrics,
        metric_key("latency_ms", device): latency.median_ms,
        metric_key("latency_p95_ms", device): latency.p95_ms,
    }
    known = {**point.provenance.get("latency", {}), device: {"batch": BATCH, "machine": describe(device)}}
    return point.model_copy(update={"metrics": metrics, "provenance": {**point.provenance, "latency": known}})


def measure(
    networks: Sequence[tuple[Architecture, Size]],
    device: str,
    work: Path,
    reporter: Reporter,
    samples: Sequence[Sample | None] | None = None,
) -> list[Latency]:
    """Run networks in turn on a device, and report the latencies of architectures; `samples` belong to networks whose
    weights affect latency. Raises InterruptedMeasurementError if the trial is to end at once, LookupError without the
    device's runtime."""
    machine = describe(device)
    given = samples or [None] * len(networks)

    def check() -> None:
        if reporter.should_stop() in _AT_ONCE:
            raise InterruptedMeasurementError

    with TemporaryDirectory(dir=work) as scratch, _threads(DEVICES[device]):
        runs = []
        for number, ((architecture, size), sample) in enumerate(zip(networks, given, strict=True)):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            runs.append(prepare(architecture, size, BATCH, DEVICES[device], folder, sample))
            check()
        timings = timed(runs, check)
    found = [Latency(median_ms=each.median_ms, p95_ms=each.p95_ms, runs=each.runs) for each in timings]
    for (architecture, size), sample, latency in zip(networks, given, found, strict=True):
        # A latency that depends on weights applies to no other network of the architecture.
        if sample is None:
            reporter.latency(
                Measured(
                    architecture=architecture.key, input_size=size, device=device, machine=machine, latency=latency
                )
            )
    return found


def _known(
    trial: Trial, device: str, machine: dict[str, Any], networks: dict[str, tuple[Architecture, Size]]
) -> dict[str, Latency]:
    if KNOWN not in trial.inputs:
        return {}
    known = {
        (each.architecture, each.input_size): each.latency
        for each in read_known(trial.inputs[KNOWN])
        if (each.device, each.machine, each.batch) == (device, machine, BATCH)
    }
    keys = {key: (architecture.key, size) for key, (architecture, size) in networks.items()}
    return {key: known[of] for key, of in keys.items() if of in known}


def _infeasible(spec: ResolvedSpec, device: str) -> dict[str, Any]:
    """The tightest bound on the device, which no network meets, and the fastest network."""
    bounds = [bound for bound in spec.constraints if bound.device == device]
    bound = min(bounds, key=lambda bound: bound.value)
    candidates = [candidate for candidate in spec.candidates() if bound.key in candidate.cost]
    fastest: Candidate = min(candidates, key=lambda candidate: candidate.cost[bound.key])
    value = fastest.cost[bound.key]
    detail = (
        f"latency_ms <= {bound.value:g} on {device} is met by no network; the fastest measured one is "
        f"{fastest.key}, with {value:.3g} ms: relax the bound, or widen the method's range"
    )
    nearest = {"metric": "latency_ms", "device": device, "value": value, "key": fastest.key, "config": fastest.config}
    return {"code": "infeasible", "detail": detail, "nearest": [nearest]}


@contextmanager
def _threads(device: Device) -> Iterator[None]:
    """torch with the device's threads: the number is global in the process."""
    before = torch.get_num_threads()
    torch.set_num_threads(device.threads or available_cpus())
    try:
        yield
    finally:
        torch.set_num_threads(before)
