"""Runs a trial: `learn` trains a network and its shape, `compare` one with a human-designed or random shape."""

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
    """Run a stage of the plan and return its outputs. Raises ValueError for an unknown stage."""
    stage = trial.params.get("stage")
    if stage not in _STAGES:
        raise ValueError(f"trial {trial.number} has the unknown stage {stage!r}; use one of {', '.join(_STAGES)}")
    return _STAGES[stage](trial, reporter)


def _compare(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train a baseline of learned shapes for the trial's `epochs`; report it with weights."""
    params = trial.spec.params(ShapeAdaptorParams)
    candidate = params.candidate(trial.spec.dataset, trial.params["config"])
    plain = params.designed(trial.spec.dataset, str(candidate.config["family"]))
    network = standalone.initial(trial, params.network(trial.spec.dataset, candidate.config))
    file = f"{candidate.key}.safetensors"
    training = StandaloneTraining(network, candidate, trial.params["epochs"], file, role="baseline", plain=plain)
    outputs, _ = standalone.run(trial, reporter, training, SubnetEvaluator(trial, network, candidate.input_size))
    return outputs | {"planned_epochs": params.epochs}


_STAGES = {LEARN: learn.run, COMPARE: _compare}
