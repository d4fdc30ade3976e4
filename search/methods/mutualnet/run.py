"""Runs a trial: `train` trains the supernet, `sweep` or `boost` reports its points, `baseline` and `polish` report one
point each.

Source: Yang et al., MutualNet (arXiv 1909.12978); for `boost` its section on boosting a single network.
"""

from __future__ import annotations

from typing import Any, Final

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import Limits
from paretofit.search.contracts.trial import Reporter, Stop, Trial
from paretofit.search.methods.mutualnet import budget, polish, supernet, sweep, train
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.plan import BASELINE, BASELINE_FILE, SUPERNET
from paretofit.search.training import standalone
from paretofit.search.training.distributed import current
from paretofit.search.training.params import input_size
from paretofit.search.training.standalone import StandaloneTraining
from paretofit.search.training.subnet_evaluator import SubnetEvaluator

FILE: Final = "boosted.safetensors"
_ACCURACIES: Final = ("selection_top1", "top1")


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Run a stage of the plan and return its outputs. Stages without training run on rank 0 only. Raises ValueError for
    an unknown stage."""
    stage = trial.params.get("stage")
    if stage not in _STAGES:
        raise ValueError(f"trial {trial.number} has the unknown stage {stage!r}; use one of {', '.join(_STAGES)}")
    if current().rank > 0 and stage not in _TRAINING:
        return {}
    return _STAGES[stage](trial, reporter)


def run_baseline(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train the trial's `width` at its `resolution` for its `epochs`; report a point of role baseline, with weights."""
    params = trial.spec.params(SlimmableParams)
    profile = trial.spec.dataset
    width, resolution, epochs = (trial.params[name] for name in ("width", "resolution", "epochs"))
    network = standalone.initial(trial, params.architecture(profile, width))
    size = input_size(profile, resolution)
    candidate = Candidate(
        key=f"baseline-w{width:g}-r{resolution}",
        config={"width": width, "resolution": resolution},
        input_size=size,
        cost=cost(network.architecture, size).as_dict(),
    )
    evaluator = SubnetEvaluator(trial, network, input_size(profile, params.sides(profile)[0]))
    outputs, _ = standalone.run(
        trial, reporter, StandaloneTraining(network, candidate, epochs, BASELINE_FILE, "baseline"), evaluator
    )
    unlimited = trial.spec.model_copy(update={"limits": Limits()})
    return outputs | {"planned_epochs": budget.epochs(unlimited).each}


def run_boost(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Report the full network as a point, with its gain over the baseline in the outputs and metrics. `baseline` is
    None if limits left no room for its training or shortened one of the two."""
    [candidate] = trial.spec.candidates()
    shared = supernet.load(trial.inputs[SUPERNET], trial.device)
    evaluator = SubnetEvaluator(trial, shared, candidate.input_size)
    point = evaluator.measure(candidate)
    if reporter.should_stop() in (Stop.CANCEL, Stop.DRAIN):
        return {}
    point = evaluator.publish(point, FILE)
    outputs: dict[str, Any] = {"baseline": None, **{name: point.metrics[name] for name in _ACCURACIES}}
    if BASELINE in trial.inputs:
        baseline = Point.model_validate(checkpoint.read_record(trial.inputs[BASELINE]))
        gains = {f"{name}_gain": point.metrics[name] - baseline.metrics[name] for name in _ACCURACIES}
        described = {
            "key": baseline.key,
            **{name: baseline.provenance[name] for name in ("trial", "epochs")},
            **{name: baseline.metrics[name] for name in _ACCURACIES},
        }
        outputs |= gains | {"baseline": described}
        provenance = point.provenance | {"baseline": described}
        point = point.model_copy(update={"metrics": point.metrics | gains, "provenance": provenance})
        network = evaluator.network.extract(Architecture.from_json(point.architecture), point.input_size)
        checkpoint.save(trial.work / FILE, network, point.model_dump(mode="json"))
    reporter.artifact(FILE, trial.work / FILE)
    reporter.point(point)
    return outputs


_TRAINING = {"train": train.run, "baseline": run_baseline, "polish": polish.run}
_STAGES = {**_TRAINING, "sweep": sweep.run, "boost": run_boost}
