"""Train what learned shapes are compared with: a network of the human-designed shape, or of a random one."""

from __future__ import annotations

from typing import Any

from paretofit.search.measuring.meter import Meter
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.reporter import Reporter, Trial
from paretofit.search.training import alone
from paretofit.search.training.alone import Alone


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train for the trial's `epochs`; report a baseline with weights."""
    params: ShapeAdaptorParams = trial.spec.method
    candidate = params.candidate(trial.spec.dataset, trial.params["config"])
    plain = params.designed(trial.spec.dataset, str(candidate.config["family"]))
    network = alone.initial(trial, params.network(trial.spec.dataset, candidate.config))
    file = f"{candidate.key}.safetensors"
    asked = Alone(network, candidate, trial.params["epochs"], file, role="baseline", plain=plain)
    outputs, _ = alone.run(trial, reporter, asked, Meter(trial, network, candidate.input_size))
    return outputs | {"planned_epochs": params.epochs}
