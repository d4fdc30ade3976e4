"""Stages 1 and 3: train the seed network, which has more channels at every scale than any budget allows, and later the
network of each structure.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.search.contracts.trial import Reporter, Stop, Trial
from paretofit.search.methods.scalenet import budget, report
from paretofit.search.methods.scalenet.params import ScaleNetParams
from paretofit.search.methods.scalenet.plan import SEED_NETWORK
from paretofit.search.training import standalone
from paretofit.search.training.distributed import current
from paretofit.search.training.standalone import StandaloneTraining
from paretofit.search.training.subnet_evaluator import SubnetEvaluator
from paretofit.search.training.trainer import fit

KIND: Final = "seed"


def train_seed(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train from the start or from a checkpoint; report curves and the artifact `seed`. Raises TrialEndedError
    beforehand if the smallest network is known to exceed every budget."""
    budget.require_feasible(trial.spec)
    params = trial.spec.params(ScaleNetParams)
    planned = params.seed_epochs or params.epochs
    epochs = budget.epochs(trial.spec, trial.spec.limits.max_epochs).seed
    profile = trial.spec.dataset
    space = params.space(profile)
    network = standalone.initial(trial, space.architecture(space.seed))
    limited = budget.TimeLimitedReporter(reporter, budget.seconds(trial.spec, epochs))
    passes = partial(standalone.step, network, params, space.size)
    outputs, stop = fit(trial, limited, network, passes, epochs)
    if current().rank == 0 and stop not in (Stop.CANCEL, Stop.DRAIN):
        path = trial.work / "seed.safetensors"
        checkpoint.write(path, network.state(), {"kind": KIND, "architecture": network.architecture.to_json()})
        reporter.artifact(SEED_NETWORK, path)
    return outputs | {"planned_epochs": planned}


def read_seed(path: Path) -> tuple[Architecture, dict[str, Tensor]]:
    """The seed network that `train_seed` wrote. Raises ValueError for another file."""
    tensors, record = checkpoint.read(path)
    if record.get("kind") != KIND:
        raise ValueError(f"{path} is not a seed network: use the artifact of stage `seed`")
    return Architecture.from_json(record["architecture"]), tensors


def train_network(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train for the trial's `epochs`; report a point with weights, and its channels by scale as data and as a chart.
    Its role is candidate if its `allocation` was learned, else baseline."""
    params = trial.spec.params(ScaleNetParams)
    config, epochs = trial.params["config"], trial.params["epochs"]
    candidate = trial.spec.candidate(config)
    network = standalone.initial(trial, params.network(trial.spec.dataset, config))
    training = StandaloneTraining(
        network,
        candidate,
        epochs,
        file=f"{candidate.key}.safetensors",
        role="candidate" if config["allocation"] == "learned" else "baseline",
    )
    limited = budget.TimeLimitedReporter(reporter, budget.seconds(trial.spec, epochs))
    outputs, point = standalone.run(trial, limited, training, SubnetEvaluator(trial, network, candidate.input_size))
    outputs["planned_epochs"] = params.epochs
    if point is None:
        return outputs
    for path in report.write(trial.work, point, params.space(trial.spec.dataset).planes):
        reporter.artifact(path.name, path)
    return outputs | {"used": point.metrics[budget.metric(trial.spec)] / config["budget"]}
