"""The work of a MutualNet trial: `train` gives the supernet, `sweep` gives the points."""

from __future__ import annotations

from typing import Any

from search.methods.mutualnet import sweep, train
from search.reporter import Reporter, Trial

_STAGES = {"train": train.run, "sweep": sweep.run}


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Do a stage of the plan and return its outputs. Raises ValueError for a trial that the plan does not make."""
    stage = trial.params.get("stage")
    if stage not in _STAGES:
        raise ValueError(f"trial {trial.number} has stage {stage!r}; MutualNet has {', '.join(_STAGES)}")
    return _STAGES[stage](trial, reporter)
