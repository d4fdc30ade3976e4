"""Stage 2, allocation: derives one structure for each budget, and those of the baselines, from the seed network. No
training.

The importance of a channel is the scale gamma of the batch norm that follows it (Li et al., ScaleNet, arXiv 1904.09460,
section 3.2). With a latency budget the trial runs on a worker that offers the device, alone on the machine, and
measures structures during the search.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor

from paretofit.models.architecture import Architecture
from paretofit.models.families.structures import Structure, written
from paretofit.models.kinds.aggregation import ScaleAggregation, aggregations
from paretofit.models.trace import Layer
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.latency import Latency, Table
from paretofit.search.contracts.spec import metric_key
from paretofit.search.contracts.trial import InterruptedMeasurementError, Reporter, Stop, Trial, TrialEndedError
from paretofit.search.latency.devices import describe
from paretofit.search.latency.run import measure
from paretofit.search.latency.stage import LATENCY_FILE
from paretofit.search.methods.scalenet import budget
from paretofit.search.methods.scalenet.allocation import (
    Allocated,
    Allocation,
    InfeasibleAllocationError,
    Ladder,
    Site,
    ladder,
)
from paretofit.search.methods.scalenet.params import ScaleNetParams
from paretofit.search.methods.scalenet.plan import SEED_NETWORK
from paretofit.search.methods.scalenet.train import read_seed


def find_sites(
    params: ScaleNetParams, dataset: DatasetProfile, architecture: Architecture, tensors: Mapping[str, Tensor]
) -> list[Site]:
    """Scale aggregations of the seed network, in order, from its state dict."""
    layers = {layer.name: layer for layer in architecture.layers(params.input_size(dataset))}
    space = params.space(dataset)
    found = []
    for (name, block), planes, width in zip(aggregations(architecture).items(), space.planes, space.fixed, strict=True):
        scores = tuple(
            tuple(_score(params, gamma, layers[f"{name}.branches.{i}.conv"]) for gamma in gammas)
            for i, gammas in enumerate(_gammas(name, block, tensors))
        )
        found.append(Site(planes, scores, width=width))
    return found


def _gammas(name: str, block: ScaleAggregation, tensors: Mapping[str, Tensor]) -> list[list[float]]:
    return [tensors[f"{name}.branches.{i}.norm.weight"].tolist() for i in range(len(block.scales))]


def _score(params: ScaleNetParams, gamma: float, conv: Layer) -> float:
    """Importance / cost^exponent, where the cost is that of the channel's own convolution."""
    importance = abs(gamma) if params.importance == "magnitude" else gamma
    macs = conv.macs / conv.output.channels
    return importance / math.pow(macs, params.cost_exponent)


FILE: Final = "allocation.json"


@dataclass
class Clock:
    """Measures structures on the device of the search, and keeps the last latency of each network."""

    trial: Trial
    reporter: Reporter
    device: str
    found: dict[Architecture, Latency] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        return metric_key("latency_ms", self.device)

    def __call__(self, architecture: Architecture) -> float:
        """Milliseconds of the last measurement."""
        return self.found[architecture].median_ms if architecture in self.found else self.again(architecture)

    def again(self, architecture: Architecture) -> float:
        """Milliseconds of a new measurement."""
        size = self.trial.spec.params(ScaleNetParams).input_size(self.trial.spec.dataset)
        [self.found[architecture]] = measure([(architecture, size)], self.device, self.trial.work, self.reporter)
        return self.found[architecture].median_ms


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Return the configurations of the `networks` to train, learned structures first.

    Reports them with the importance of every channel as the artifact `FILE` and, if the search names a device, all
    latencies as another. Raises TrialEndedError if no allocation meets any budget.
    """
    params = trial.spec.params(ScaleNetParams)
    architecture, tensors = read_seed(trial.inputs[SEED_NETWORK])
    sites = find_sites(params, trial.spec.dataset, architecture, tensors)
    clock = Clock(trial, reporter, trial.spec.devices[0]) if trial.spec.devices else None
    networks: list[dict[str, Any]] = []
    allocations: tuple[Allocation, ...] = ("learned", *params.baselines)
    try:
        for allocation in allocations:
            networks += allocated(trial, sites, allocation, clock)
        if clock is not None:
            _write_latencies(trial, reporter, clock, networks)
    except InterruptedMeasurementError:
        return {}
    path = trial.work / FILE
    scores = [[list(scale) for scale in site.scores] for site in sites]
    path.write_text(json.dumps({"networks": networks, "importance": scores}))
    reporter.artifact(FILE, path)
    outputs = {"networks": networks}
    if not networks:
        detail = "no allocation of the seed network's channels meets a budget and the constraints: relax them"
        raise TrialEndedError("infeasible", outputs, {"code": "infeasible", "detail": detail})
    return outputs


def allocated(trial: Trial, sites: list[Site], allocation: Allocation, clock: Clock | None) -> list[dict[str, Any]]:
    """A configuration for each feasible budget; of two budgets with the same structure, the lower."""
    steps = ladder(allocation, sites, seed=trial.spec.seed)
    found: dict[Structure, dict[str, Any]] = {}
    least: Allocated | None = None
    for target in budget.targets(trial.spec):
        bounds = budget.bounds(trial.spec, target)
        if clock is not None and found and clock.reporter.should_stop() is Stop.LIMIT:
            break
        try:
            least = _within(trial, steps, bounds, clock, least)
        except InfeasibleAllocationError as error:
            sys.stderr.write(f"{allocation}, {budget.metric(trial.spec)} <= {target:g}: {error}\n")
            continue
        config = {"budget": target, "allocation": allocation, "structure": written(least.structure)}
        found.setdefault(least.structure, config)
    return list(found.values())


def _within(
    trial: Trial, steps: Ladder, bounds: dict[str, float], clock: Clock | None, least: Allocated | None
) -> Allocated:
    """The largest structure within the bounds, at least that of a lower budget. Raises InfeasibleAllocationError.

    A latency must hold when measured again; otherwise the bound is lowered by the excess and the search repeated.
    Rejected steps are measured twice, so that one spike does not cost half of a budget."""
    space = trial.spec.params(ScaleNetParams).space(trial.spec.dataset)
    if clock is None or clock.metric not in bounds:
        return space.allocate(steps, bounds)
    bound = aimed = bounds[clock.metric]
    remeasured: set[int] = set()
    while True:
        try:
            within = space.allocate(steps, bounds | {clock.metric: aimed}, {clock.metric: clock})
        except InfeasibleAllocationError:
            if least is None:
                raise
            return least
        if least is not None and within.step <= least.step:
            return least
        above = within.step + 1
        if above < len(steps) and above not in remeasured:
            remeasured.add(above)
            if clock.again(space.architecture(steps[above])) <= aimed:
                continue
        network = space.architecture(within.structure)
        taken = clock.again(network)
        if taken > bound:
            taken = clock.again(network)
        if taken <= bound:
            return within
        aimed *= max(0.9, 0.99 * bound / taken)


def _write_latencies(trial: Trial, reporter: Reporter, clock: Clock, networks: list[dict[str, Any]]) -> None:
    """Latency table of the networks, for their trials; measures those that no bound needed."""
    known: dict[str, Latency] = {}
    for config in networks:
        architecture = trial.spec.method.network(trial.spec.dataset, config)
        if architecture not in clock.found:
            clock(architecture)
        known[trial.spec.candidate(config).key] = clock.found[architecture]
    table = Table(device=clock.device, machine=describe(clock.device), latencies=known)
    path = trial.work / LATENCY_FILE
    path.write_text(table.model_dump_json(), encoding="utf-8")
    reporter.artifact(LATENCY_FILE, path)
