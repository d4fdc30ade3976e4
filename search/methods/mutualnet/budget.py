"""How many epochs each training of a search gets. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from search.methods.method import DatasetProfile
from search.methods.mutualnet.params import Baseline, SlimmableParams
from search.spec import ResolvedSpec

_WIDTHS: Final = 32
"""At which the cost of a width drawn at random is taken: the middles of as many equal parts of the range."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """Of the shared network, and of each of the baselines that are trained."""

    shared: int
    each: int
    baselines: tuple[Baseline, ...]


def baselines(spec: ResolvedSpec) -> tuple[Baseline, ...]:
    """The configurations to train on their own, each once; with goal boost the full network is the first. As many as
    `max_trials` leaves room for beside the two trials that a search is made of."""
    wanted, most = _wanted(spec), spec.limits.max_trials
    return wanted if most is None else wanted[: max(0, most - 2)]


def cut(spec: ResolvedSpec) -> Literal["max_trials", "max_epochs"] | None:
    """The limit for which some of the baselines are not trained."""
    wanted, within = len(_wanted(spec)), len(baselines(spec))
    if within < wanted:
        return "max_trials"
    return "max_epochs" if len(epochs(spec).baselines) < within else None


def _wanted(spec: ResolvedSpec) -> tuple[Baseline, ...]:
    params: SlimmableParams = spec.method
    full = Baseline(width=params.widths.max, resolution=params.sides(spec.dataset)[0])
    return tuple(dict.fromkeys([*([full] if params.goal == "boost" else []), *params.baselines]))


def epochs(spec: ResolvedSpec) -> Epochs:
    """By `epochs` and `baseline_budget`. Where `max_epochs` is too little for all, the same for each, or with the budget
    `compute` in proportion; at least one each, the last baselines being left out where there are not even so many."""
    params: SlimmableParams = spec.method
    alone, most = baselines(spec), spec.limits.max_epochs
    each = params.epochs
    if alone and params.baseline_budget == "compute":
        spent = params.epochs * step_macs(params, spec.dataset)
        each = max(1, round(spent / sum(_macs(params, spec.dataset, b.width, b.resolution) for b in alone)))
    planned = params.epochs + each * len(alone)
    if most is None or planned <= most:
        return Epochs(params.epochs, each, alone)
    alone = alone[: most - 1]
    if not alone:
        return Epochs(most, 0, ())
    if params.baseline_budget == "epochs":
        each = most // (len(alone) + 1)
        return Epochs(each, each, alone)
    each = max(1, min(each * most // planned, (most - 1) // len(alone)))
    return Epochs(min(params.epochs, most - each * len(alone)), each, alone)


def step_macs(params: SlimmableParams, dataset: DatasetProfile) -> float:
    """Multiply-accumulates per image of a training step's forward passes, on average."""
    sides = params.trained_sides(dataset)
    low, high = params.widths.min, params.widths.max

    def mean(widths: list[float]) -> float:
        costs = [_macs(params, dataset, width, side) for width in widths for side in sides]
        return sum(costs) / len(costs)

    middles = [low + (high - low) * (part + 0.5) / _WIDTHS for part in range(_WIDTHS)]
    return _macs(params, dataset, high, sides[0]) + mean([low]) + params.random_widths * mean(middles)


def _macs(params: SlimmableParams, dataset: DatasetProfile, width: float, side: int) -> int:
    return int(params.candidate(dataset, {"width": width, "resolution": side}).cost["macs"])
