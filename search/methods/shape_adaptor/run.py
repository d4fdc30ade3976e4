"""The work of a trial: `learn` trains a network and its shape, `compare` one of a given shape."""

from __future__ import annotations

from typing import Any

from paretofit.search.methods.shape_adaptor import compare, learn
from paretofit.search.methods.shape_adaptor.plan import COMPARE, LEARN
from paretofit.search.reporter import Reporter, Trial

_STAGES = {LEARN: learn.run, COMPARE: compare.run}


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Do a stage of the plan and return its outputs. Raises ValueError for a trial that the plan does not make."""
    stage = trial.params.get("stage")
    if stage not in _STAGES:
        raise ValueError(f"trial {trial.number} has stage {stage!r}; there are {', '.join(_STAGES)}")
    return _STAGES[stage](trial, reporter)
