"""The work of a trial: `train` gives the shared network, `sweep` or `boost` its points, `baseline` and `polish` a
point of their own."""

from __future__ import annotations

from typing import Any

from paretofit.search.methods.mutualnet import baseline, boost, polish, sweep, train
from paretofit.search.reporter import Reporter, Trial
from paretofit.search.training.ranks import current

_TRAINING = {"train": train.run, "baseline": baseline.run, "polish": polish.run}
_STAGES = {**_TRAINING, "sweep": sweep.run, "boost": boost.run}


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Do a stage of the plan and return its outputs. What does not train is done on rank 0 alone. Raises ValueError for
    a trial that the plan does not make."""
    stage = trial.params.get("stage")
    if stage not in _STAGES:
        raise ValueError(f"trial {trial.number} has stage {stage!r}; there are {', '.join(_STAGES)}")
    if current().rank > 0 and stage not in _TRAINING:
        return {}
    return _STAGES[stage](trial, reporter)
