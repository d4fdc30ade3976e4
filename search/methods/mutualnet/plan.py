"""Plan of the search: train the supernet, sweep it, then polish selected front networks; with goal boost, measure the
full network against a baseline. Baselines are trained after the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paretofit.search.contracts.plan import NewTrial, Plan, TrialArtifact, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.mutualnet import budget
from paretofit.search.methods.mutualnet.params import SlimmableParams

SUPERNET: Final = "supernet"
BASELINE: Final = "baseline"
BASELINE_FILE: Final = "baseline.safetensors"
"""Artifact of a baseline's trial, and input `BASELINE` of the boosted network's."""
SWEEP: Final = NewTrial(params={"stage": "sweep"}, inputs={SUPERNET: TrialArtifact(trial=0, artifact=SUPERNET)})
POLISH: Final = "polish"
SWEEP_STAGE: Final = "sweep"


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Trial 0 trains the supernet; with goal boost the compared baseline is trained beside it. The next trial measures
    the supernet, and all others follow, so that results do not wait for baselines. If the training fails, nothing
    follows."""
    if not history:
        if not spec.feasible():
            return Plan(done=True)
        train = NewTrial(params={"stage": "train", "epochs": budget.epochs(spec).shared})
        return Plan(trials=(train, *_compared(spec, history)))
    if any(record.params.get("stage") == "boost" for record in history):
        return Plan(trials=tuple(_baselines(spec, history)), done=True, stop_reason=budget.cut(spec))
    if (sweep := next((r for r in history if r.params.get("stage") == SWEEP_STAGE), None)) is not None:
        waits = sweep.state in ("queued", "running") and budget.epochs(spec).polished > 0
        polished = () if waits else _polished(spec, sweep, history)
        trials = (*polished, *_baselines(spec, history))
        return Plan(trials=trials, done=not waits, stop_reason=None if waits else budget.cut(spec))
    compared = tuple(_compared(spec, history))
    match history[0].state:
        case "queued" | "running":
            return Plan(trials=compared)
        case "completed":
            front = spec.params(SlimmableParams).goal == "front"
            last = SWEEP if front else None if compared else _boost(history)
            if last is None:
                return Plan(trials=compared)
            done = not front or not budget.epochs(spec).polished
            reason = budget.cut(spec) if done else None
            return Plan(trials=(last, *_baselines(spec, history)), done=done, stop_reason=reason)
        case _:
            return Plan(done=True)


def _polished(spec: ResolvedSpec, sweep: TrialRecord, history: Sequence[TrialRecord]) -> list[NewTrial]:
    """A trial for each network that the sweep selected, unless it exists."""
    epochs = budget.epochs(spec)
    chosen = (sweep.outputs or {}).get("polish") if sweep.state == "completed" else None
    if chosen is None or not epochs.polish:
        return []
    made = [record.params.get("config") for record in history]
    return [
        NewTrial(
            params={"stage": POLISH, "config": config, "teacher": chosen["teacher"], "epochs": epochs.polish},
            inputs={SUPERNET: TrialArtifact(trial=sweep.number, artifact=SUPERNET)},
        )
        for config in chosen["networks"][: epochs.polished]
        if config not in made
    ]


def _boost(history: Sequence[TrialRecord]) -> NewTrial | None:
    """The trial that measures the full network, or None while its baseline is active. No comparison if a limit
    shortened either training."""
    inputs = {SUPERNET: TrialArtifact(trial=0, artifact=SUPERNET)}
    baseline = next((record for record in history if record.params["stage"] == BASELINE), None)
    if baseline is not None:
        if baseline.state in ("queued", "running"):
            return None
        if baseline.state == "completed" and _is_whole(baseline) and _is_whole(history[0]):
            inputs[BASELINE] = TrialArtifact(trial=baseline.number, artifact=BASELINE_FILE)
    return NewTrial(params={"stage": "boost"}, inputs=inputs)


def _is_whole(training: TrialRecord) -> bool:
    return training.outputs is not None and training.outputs["epochs"] >= training.params["epochs"]


def _compared(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> list[NewTrial]:
    """The baseline of goal boost, unless it exists."""
    planned = any(record.params["stage"] == BASELINE for record in history)
    return [] if spec.params(SlimmableParams).goal == "front" or planned else _baselines(spec, history)[:1]


def _baselines(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> list[NewTrial]:
    """The baselines that do not exist yet, as far as epochs remain: limits may have changed since the others were
    planned."""
    epochs = budget.epochs(spec)
    made = [(record.params.get("width"), record.params.get("resolution")) for record in history]
    missing = [each for each in epochs.baselines if (each.width, each.resolution) not in made]
    each, most = epochs.each, spec.limits.max_epochs
    if most is not None and history and missing:
        each = min(each, int((most - sum(record.params.get("epochs", 0) for record in history)) // len(missing)))
    return [
        NewTrial(params={"stage": BASELINE, "width": b.width, "resolution": b.resolution, "epochs": each})
        for b in missing
        if each > 0
    ]
