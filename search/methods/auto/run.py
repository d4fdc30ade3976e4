"""Runs a trial: as its member would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from paretofit.search.contracts.trial import Reporter, Trial
from paretofit.search.methods.auto.params import MEMBER, AutoParams


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Run the trial as its member would; returns the member's outputs."""
    params = dict(trial.params)
    kind = params.pop(MEMBER)
    spec = trial.spec.model_copy(update={"method": trial.spec.params(AutoParams).member(kind)})
    own: Callable[[Trial, Reporter], dict[str, Any]] = import_module(f"paretofit.search.methods.{kind}.run").run
    return own(replace(trial, spec=spec, params=params), reporter)
