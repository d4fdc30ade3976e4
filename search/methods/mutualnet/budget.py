"""How many epochs each training of a search gets. Torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.budget import evenly, proportional
from paretofit.search.methods.mutualnet.options import Baseline
from paretofit.search.methods.mutualnet.params import SlimmableParams

_LOWERINGS: Final = 4
"""Least widths at which the cost of steps is taken while the least width falls."""
_WIDTHS: Final = 32
"""At which the cost of a width drawn at random is taken: the middles of as many equal parts of the range."""
POLISHED: Final = 0.5
"""Of the full network's multiply-accumulates: dearer networks are not polished, since sharing costs them nothing.
Clothes, FD-MobileNet x 1: 5 points of selection accuracy up to a third of them, -.3 at three quarters."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """Of the shared network, of each of the baselines that are trained, and of the polish of each of so many
    networks."""

    shared: int
    each: int
    baselines: tuple[Baseline, ...]
    polish: float = 0.0
    polished: int = 0


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
    params = spec.params(SlimmableParams)
    full = Baseline(width=params.widths.max, resolution=params.sides(spec.dataset)[0])
    return tuple(dict.fromkeys([*([full] if params.goal == "boost" else []), *params.baselines]))


def epochs(spec: ResolvedSpec) -> Epochs:
    """By `epochs`, `baseline_budget` and `polish`. Where `max_epochs` is too little for all, at most a quarter of it is
    left to the polish, and the others get the same each, or with the budget `compute` in proportion; at least one each,
    the last baselines being left out where there are not even so many."""
    params = spec.params(SlimmableParams)
    polished, polish = _polished(spec), params.polish_epochs(spec.dataset)
    trained = _trained(spec, spec.limits.max_epochs)
    most = spec.limits.max_epochs
    if not polished or not polish:
        return trained
    total = trained.shared + trained.each * len(trained.baselines)
    if most is not None and total + polished * polish > most:
        spared = min(most // 4, polished * polish)
        trained = _trained(spec, most - math.ceil(spared))
        total = trained.shared + trained.each * len(trained.baselines)
        polish = min(polish, (most - total) / polished)
    return replace(trained, polish=polish, polished=polished) if polish > 0 else trained


def _polished(spec: ResolvedSpec) -> int:
    """Networks that may be polished: as many as `max_trials` leaves room for beside all others."""
    params = spec.params(SlimmableParams)
    most = spec.limits.max_trials
    wanted = params.polish_networks if params.polish else 0
    return wanted if most is None else max(0, min(wanted, most - 2 - len(baselines(spec))))


def _trained(spec: ResolvedSpec, most: int | None) -> Epochs:
    """Of the shared network and the baselines, together at most `most`."""
    params = spec.params(SlimmableParams)
    alone = baselines(spec)
    each = params.epochs
    if alone and params.baseline_budget == "compute":
        polished = _polished(spec) * params.polish_epochs(spec.dataset)
        spent = params.epochs * step_macs(params, spec.dataset) + polished * polish_macs(params, spec.dataset)
        each = max(1, round(spent / sum(_macs(params, spec.dataset, b.width, b.resolution) for b in alone)))
    shared, each, count = proportional(params.epochs, each, len(alone), most)
    if count and params.baseline_budget == "epochs":
        shared = each
    return Epochs(shared, each, alone[:count])


def step_macs(params: SlimmableParams, dataset: DatasetProfile) -> float:
    """Multiply-accumulates per image of a training step's forward passes, on average over the training's phases."""
    full = _macs(params, dataset, params.widths.max, params.trained_sides(dataset)[0])
    low, high = params.widths.min, params.widths.max
    middles = [low + (high - low) * (part + 0.5) / _LOWERINGS for part in range(_LOWERINGS)]
    lowering = sum(_narrower(params, dataset, least) for least in middles) / _LOWERINGS
    rest = 1 - params.full_first - params.lowering
    return full + params.lowering * lowering + rest * _narrower(params, dataset, low)


def polish_macs(params: SlimmableParams, dataset: DatasetProfile) -> float:
    """Multiply-accumulates per image of the forward passes of one network's polish: its own, and a third of its
    teacher's, which has no backward pass. Of networks that are spread evenly over those candidates that polish is
    for."""
    costs = sorted(candidate.cost["macs"] for candidate in params.candidates(dataset))
    students = evenly([macs for macs in costs if macs <= POLISHED * costs[-1]], params.polish_networks)
    return sum(students) / max(1, len(students)) + costs[-1] / 3


def _narrower(params: SlimmableParams, dataset: DatasetProfile, least: float) -> float:
    """Of the networks of a step beside the full one, whose widths are `least` and more."""
    sides = params.trained_sides(dataset)

    def mean(widths: list[float]) -> float:
        costs = [_macs(params, dataset, width, side) for width in widths for side in sides]
        return sum(costs) / len(costs)

    high = params.widths.max
    middles = [least + (high - least) * (part + 0.5) / _WIDTHS for part in range(_WIDTHS)]
    return mean([least]) + params.random_widths * mean(middles)


def _macs(params: SlimmableParams, dataset: DatasetProfile, width: float, side: int) -> int:
    return int(params.candidate(dataset, {"width": width, "resolution": side}).cost["macs"])
