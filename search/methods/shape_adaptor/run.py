"""The work of a trial: `learn` trains a network and its shape, `compare` one whose shape was designed or is random."""

from __future__ import annotations

from typing import Any

from paretofit.search.contracts.trial import Reporter, Trial
from paretofit.search.methods.shape_adaptor import learn
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.plan import COMPARE, LEARN
from paretofit.search.training import standalone
from paretofit.search.training.standalone import StandaloneTraining
from paretofit.search.training.subnet_evaluator import SubnetEvaluator


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Do a stage of the plan and return its outputs. Raises ValueError for a trial that the plan does not make."""
    stage = trial.params.get("stage")
    if stage not in _STAGES:
        raise ValueError(f"trial {trial.number} has stage {stage!r}; there are {', '.join(_STAGES)}")
    return _STAGES[stage](trial, reporter)


def _compare(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train what learned shapes are compared with for the trial's `epochs`; report a baseline with weights."""
    params = trial.spec.params(ShapeAdaptorParams)
    candidate = params.candidate(trial.spec.dataset, trial.params["config"])
    plain = params.designed(trial.spec.dataset, str(candidate.config["family"]))
    network = standalone.initial(trial, params.network(trial.spec.dataset, candidate.config))
    file = f"{candidate.key}.safetensors"
    asked = StandaloneTraining(network, candidate, trial.params["epochs"], file, role="baseline", plain=plain)
    outputs, _ = standalone.run(trial, reporter, asked, SubnetEvaluator(trial, network, candidate.input_size))
    return outputs | {"planned_epochs": params.epochs}


_STAGES = {LEARN: learn.run, COMPARE: _compare}
