"""The trials of a search: planning and running them.

Trials that measure latencies are the same for all methods (`paretofit.search.latency`); the others belong to the
method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from paretofit.search.contracts.plan import INITIAL, START, NewTrial, Plan, TrialArtifact, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Reporter, Trial
from paretofit.search.latency import stage
from paretofit.search.registry import Method, methods


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """The next trials, from the specification and the history: latency measurements, then the method's own. Pure;
    torch-free."""
    method = methods()[spec.method.kind]
    planned = stage.plan(spec, history, method.load("plan", "plan"))
    if spec.start is None:
        return planned
    started = {START: TrialArtifact(trial=None, artifact=INITIAL)}
    trials = [
        trial.model_copy(update={"inputs": trial.inputs | started}) if _reads_start(method, trial) else trial
        for trial in planned.trials
    ]
    return planned.model_copy(update={"trials": tuple(trials)})


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Run a trial and return its outputs (JSON). Imports torch."""
    informed = stage.informed(trial)
    if stage.measures(trial.params):
        outputs: dict[str, Any] = import_module("paretofit.search.latency.run").run(informed, reporter)
        return outputs
    method = methods()[trial.spec.method.kind]
    own: Callable[[Trial, Reporter], dict[str, Any]] = method.load("run", "run")
    if not (method.params.learns and trial.spec.devices):
        return own(informed, reporter)
    deferring = stage.DeferringReporter(reporter, trial.spec)
    outputs = own(informed, deferring)
    return {**outputs, **deferring.outputs}


def _reads_start(method: Method, trial: NewTrial) -> bool:
    return not stage.measures(trial.params) and trial.params.get("stage") not in method.params.without_start
