"""The methods that are there, by name: API, planner and trainer load the same list (`PARETOFIT_METHODS`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from paretofit.search.latency import stage
from paretofit.search.methods.method import INITIAL, START, MethodParams, NewTrial, Plan, TrialArtifact, TrialRecord

if TYPE_CHECKING:
    from paretofit.search.reporter import Reporter, Trial
    from paretofit.search.spec import ResolvedSpec


@dataclass(frozen=True, slots=True)
class Method:
    """A kind of search: its parameters now, its plan and its run when they are first needed."""

    kind: str
    package: str
    params: type[MethodParams]

    def plan(self, spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
        """The next trials, from the spec and what came of the trials so far: those that measure latencies, then the
        method's own. Pure; torch-free."""
        plan = stage.plan(spec, history, import_module(f"{self.package}.plan").plan)
        if spec.start is None:
            return plan
        started = {START: TrialArtifact(trial=None, artifact=INITIAL)}
        trials = [
            trial.model_copy(update={"inputs": trial.inputs | started}) if self._reads_start(trial) else trial
            for trial in plan.trials
        ]
        return plan.model_copy(update={"trials": tuple(trials)})

    def _reads_start(self, trial: NewTrial) -> bool:
        return not stage.measures(trial.params) and trial.params.get("stage") not in self.params.without_start

    def run(self, trial: Trial, reporter: Reporter) -> dict[str, Any]:
        """Do a trial's work and return its outputs (JSON). Imports torch."""
        package = "paretofit.search.latency" if stage.measures(trial.params) else self.package
        run: Callable[[Trial, Reporter], dict[str, Any]] = import_module(f"{package}.run").run
        if not (self.params.learns and trial.spec.devices) or stage.measures(trial.params):
            return run(stage.informed(trial), reporter)
        withheld = import_module("paretofit.search.latency.withheld").Withheld(reporter, trial.spec)
        outputs = run(stage.informed(trial), withheld)
        return {**outputs, **withheld.outputs}


def load(packages: Iterable[str]) -> dict[str, Method]:
    """The methods of these packages by kind. Raises ValueError if two packages claim one kind or none is named."""
    methods: dict[str, Method] = {}
    for package in packages:
        for params in import_module(f"{package}.params").PARAMS:
            kind = params.model_fields["kind"].default
            if kind in methods:
                raise ValueError(f"method {kind!r} is in both {methods[kind].package} and {package}")
            methods[kind] = Method(kind=kind, package=package, params=params)
    if not methods:
        raise ValueError("PARETOFIT_METHODS names no method package")
    return methods
