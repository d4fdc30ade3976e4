"""The work of a trial that measures: how long each candidate takes on a device.

Whoever runs it holds the machine's lock alone (`search.latency.lock`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch

from cores import cores
from models.architecture import Architecture
from models.trace import Size
from search.latency import table
from search.latency.clock import timed
from search.latency.devices import DEVICES, Device, describe
from search.latency.prepare import prepare
from search.latency.stage import FILE, KNOWN
from search.latency.table import BATCH, Latency, Measured, Table
from search.methods.method import Candidate
from search.reporter import Reporter, Stop, Trial, TrialEndedError
from search.spec import ResolvedSpec

GROUP: Final = 8
"""Networks that are measured in turn."""
_AT_ONCE: Final = (Stop.CANCEL, Stop.DRAIN)


class InterruptedMeasurementError(Exception):
    """A measurement was given up because the trial is to end."""


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Measure the feasible candidates that are not known yet; report each, and the artifact `FILE` with all of them.

    Raises TrialEndedError if none keeps within the bounds on this device, LookupError without its runtime.
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
    path = trial.work / FILE
    path.write_text(measured.model_dump_json(), encoding="utf-8")
    reporter.artifact(FILE, path)
    outputs = {"table": measured.model_dump(mode="json"), "measured": len(found)}
    informed = spec.model_copy(update={"latencies": {**spec.latencies, name: measured}})
    if networks and len(found) == len(networks) and not informed.feasible():
        raise TrialEndedError("infeasible", outputs, _infeasible(informed, name))
    return outputs


def measure(
    networks: Sequence[tuple[Architecture, Size]], device: str, work: Path, reporter: Reporter
) -> list[Latency]:
    """Run networks in turn on a device, and report what they take. Raises InterruptedMeasurementError if the trial is to
    end at once, LookupError without the device's runtime."""
    machine = describe(device)

    def check() -> None:
        if reporter.should_stop() in _AT_ONCE:
            raise InterruptedMeasurementError

    with TemporaryDirectory(dir=work) as scratch, _threads(DEVICES[device]):
        runs = []
        for number, (architecture, size) in enumerate(networks):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            runs.append(prepare(architecture, size, BATCH, DEVICES[device], folder))
            check()
        timings = timed(runs, check)
    found = [Latency(median_ms=each.median_ms, p95_ms=each.p95_ms, runs=each.runs) for each in timings]
    for (architecture, size), latency in zip(networks, found, strict=True):
        reporter.latency(
            Measured(architecture=architecture.key, input_size=size, device=device, machine=machine, latency=latency)
        )
    return found


def _known(
    trial: Trial, device: str, machine: dict[str, Any], networks: dict[str, tuple[Architecture, Size]]
) -> dict[str, Latency]:
    if KNOWN not in trial.inputs:
        return {}
    known = {
        (each.architecture, each.input_size): each.latency
        for each in table.read_known(trial.inputs[KNOWN])
        if (each.device, each.machine, each.batch) == (device, machine, BATCH)
    }
    keys = {key: (architecture.key, size) for key, (architecture, size) in networks.items()}
    return {key: known[of] for key, of in keys.items() if of in known}


def _infeasible(spec: ResolvedSpec, device: str) -> dict[str, Any]:
    """The tightest bound on the device, which nothing meets, and the fastest network."""
    bounds = [bound for bound in spec.constraints if bound.device == device]
    bound = min(bounds, key=lambda bound: bound.value)
    candidates = [candidate for candidate in spec.candidates() if bound.key in candidate.cost]
    fastest: Candidate = min(candidates, key=lambda candidate: candidate.cost[bound.key])
    value = fastest.cost[bound.key]
    detail = (
        f"latency_ms <= {bound.value:g} on {device} is met by no network; the fastest that was measured is {fastest.key}, with "
        f"{value:.3g} ms: relax the bound, or widen the method's range"
    )
    nearest = {"metric": "latency_ms", "device": device, "value": value, "key": fastest.key, "config": fastest.config}
    return {"code": "infeasible", "detail": detail, "nearest": [nearest]}


@contextmanager
def _threads(device: Device) -> Iterator[None]:
    """torch with the device's threads: it has one number for the process."""
    before = torch.get_num_threads()
    torch.set_num_threads(device.threads or cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
