"""A baseline: one width at one resolution, trained on its own by the recipe of the shared network, and measured."""

from __future__ import annotations

from typing import Any

from paretofit.models.cost import cost
from paretofit.search.measuring.meter import Meter
from paretofit.search.methods.method import Candidate
from paretofit.search.methods.mutualnet import budget
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.plan import BASELINE_FILE
from paretofit.search.methods.training import input_size
from paretofit.search.reporter import Reporter, Trial
from paretofit.search.spec import Limits
from paretofit.search.training import alone
from paretofit.search.training.alone import Alone


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train the trial's `width` at its `resolution` for its `epochs`; report a point of role baseline, with weights."""
    params: SlimmableParams = trial.spec.method
    profile = trial.spec.dataset
    width, resolution, epochs = (trial.params[name] for name in ("width", "resolution", "epochs"))
    network = alone.initial(trial, params.architecture(profile, width))
    size = input_size(profile, resolution)
    candidate = Candidate(
        key=f"baseline-w{width:g}-r{resolution}",
        config={"width": width, "resolution": resolution},
        input_size=size,
        cost=cost(network.architecture, size).as_dict(),
    )
    meter = Meter(trial, network, input_size(profile, params.sides(profile)[0]))
    outputs, _ = alone.run(trial, reporter, Alone(network, candidate, epochs, BASELINE_FILE, "baseline"), meter)
    unlimited = trial.spec.model_copy(update={"limits": Limits()})
    return outputs | {"planned_epochs": budget.epochs(unlimited).each}
