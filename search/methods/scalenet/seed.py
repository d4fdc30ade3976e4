"""Stage 1: train the seed network, which has more channels at every scale than any budget allows."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.search.methods.scalenet import budget
from paretofit.search.methods.scalenet.params import ScaleNetParams
from paretofit.search.methods.scalenet.plan import SEED_NETWORK
from paretofit.search.reporter import Reporter, Stop, Trial
from paretofit.search.training import alone
from paretofit.search.training.fit import fit
from paretofit.search.training.pace import Paced
from paretofit.search.training.ranks import current

KIND: Final = "seed"


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train from the start or from a checkpoint; report curves and the artifact `seed`. Raises TrialEndedError before
    that if the least network is known to take more than any budget."""
    budget.require_feasible(trial.spec)
    params: ScaleNetParams = trial.spec.method
    planned = params.seed_epochs or params.epochs
    epochs = budget.epochs(trial.spec, trial.spec.limits.max_epochs).seed
    profile = trial.spec.dataset
    network = alone.initial(trial, params.architecture(profile, params.seed_structure()))
    paced = Paced(reporter, budget.seconds(trial.spec, epochs))
    passes = partial(alone.step, network, params, params.input_size(profile))
    outputs, stop = fit(trial, paced, network, passes, epochs)
    if current().rank == 0 and stop not in (Stop.CANCEL, Stop.DRAIN):
        path = trial.work / "seed.safetensors"
        checkpoint.write(path, network.state(), {"kind": KIND, "architecture": network.architecture.to_json()})
        reporter.artifact(SEED_NETWORK, path)
    return outputs | {"planned_epochs": planned}


def read(path: Path) -> tuple[Architecture, dict[str, Tensor]]:
    """The seed network that `run` wrote. Raises ValueError for another file."""
    tensors, record = checkpoint.read(path)
    if record.get("kind") != KIND:
        raise ValueError(f"{path} is a network, but no seed network: train one by the stage `seed`")
    return Architecture.from_json(record["architecture"]), tensors
