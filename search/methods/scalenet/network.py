"""Stage 3: train the network of one structure from scratch, and measure it."""

from __future__ import annotations

from typing import Any

from paretofit.search.measuring.meter import Meter
from paretofit.search.methods.scalenet import budget, report
from paretofit.search.methods.scalenet.params import ScaleNetParams
from paretofit.search.reporter import Reporter, Trial
from paretofit.search.training import alone
from paretofit.search.training.alone import Alone
from paretofit.search.training.pace import Paced


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train for the trial's `epochs`; report a point with weights, and its channels by scale as data and as a picture.
    Its role is candidate if its `allocation` was learned, else baseline."""
    params: ScaleNetParams = trial.spec.method
    config, epochs = trial.params["config"], trial.params["epochs"]
    candidate = trial.spec.candidate(config)
    network = alone.initial(trial, params.network(trial.spec.dataset, config))
    asked = Alone(
        network,
        candidate,
        epochs,
        file=f"{candidate.key}.safetensors",
        role="candidate" if config["allocation"] == "learned" else "baseline",
    )
    paced = Paced(reporter, budget.seconds(trial.spec, epochs))
    outputs, point = alone.run(trial, paced, asked, Meter(trial, network, candidate.input_size))
    outputs["planned_epochs"] = params.epochs
    if point is None:
        return outputs
    for path in report.write(trial.work, point, params.planes):
        reporter.artifact(path.name, path)
    return outputs | {"used": point.metrics[budget.metric(trial.spec)] / config["budget"]}
