"""Runs a trial: `seed` trains the seed network, `allocate` derives structures, `network` trains one of them."""

from __future__ import annotations

from typing import Any

from paretofit.search.contracts.trial import Reporter, Trial
from paretofit.search.methods.scalenet import allocate, train
from paretofit.search.training.distributed import current

_TRAINING = {"seed": train.train_seed, "network": train.train_network}
_STAGES = {**_TRAINING, "allocate": allocate.run}


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Run a stage of the plan and return its outputs. Stages without training run on rank 0 only. Raises ValueError for
    an unknown stage."""
    stage = trial.params.get("stage")
    if stage not in _STAGES:
        raise ValueError(f"trial {trial.number} has the unknown stage {stage!r}; use one of {', '.join(_STAGES)}")
    if current().rank > 0 and stage not in _TRAINING:
        return {}
    return _STAGES[stage](trial, reporter)
