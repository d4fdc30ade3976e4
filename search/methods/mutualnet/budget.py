"""Epochs of each training of a search. Torch-free."""

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
"""Number of smallest widths at which the cost of a step is evaluated while the smallest width decreases."""
_WIDTHS: Final = 32
"""Random widths at which the cost is evaluated: the centers of as many equal parts of the range."""
POLISHED: Final = 0.5
"""Fraction of the full network's multiply-accumulates up to which networks are polished; sharing weights costs larger
ones nothing. Clothes, FD-MobileNet x 1: 5 points of selection accuracy up to a third of them, -0.3 at three
quarters."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """Epochs of the shared network, of each trained baseline, and of each network's polish."""

    shared: int
    each: int
    baselines: tuple[Baseline, ...]
    polish: float = 0.0
    polished: int = 0


def baselines(spec: ResolvedSpec) -> tuple[Baseline, ...]:
    """Configurations to train on their own, without duplicates; with goal boost the full network is the first. Limited
    to the trials that `max_trials` leaves beside the two that every search needs."""
    requested, most = _requested(spec), spec.limits.max_trials
    return requested if most is None else requested[: max(0, most - 2)]


def cut(spec: ResolvedSpec) -> Literal["max_trials", "max_epochs"] | None:
    """The limit that removes some of the baselines."""
    requested, within = len(_requested(spec)), len(baselines(spec))
    if within < requested:
        return "max_trials"
    return "max_epochs" if len(epochs(spec).baselines) < within else None


def _requested(spec: ResolvedSpec) -> tuple[Baseline, ...]:
    params = spec.params(SlimmableParams)
    full = Baseline(width=params.widths.max, resolution=params.sides(spec.dataset)[0])
    return tuple(dict.fromkeys([*([full] if params.goal == "boost" else []), *params.baselines]))


def epochs(spec: ResolvedSpec) -> Epochs:
    """Epochs by `epochs`, `baseline_budget` and `polish`.

    If `max_epochs` is too low, polish gets at most a quarter of it, and the other trainings equal shares (in proportion
    with budget `compute`), at least one epoch each. The last baselines are left out if there is less than one epoch for
    each."""
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
    """Number of networks to polish: as many as `max_trials` leaves room for."""
    params = spec.params(SlimmableParams)
    most = spec.limits.max_trials
    requested = params.polish_networks if params.polish else 0
    return requested if most is None else max(0, min(requested, most - 2 - len(baselines(spec))))


def _trained(spec: ResolvedSpec, most: int | None) -> Epochs:
    """Epochs of the shared network and the baselines, at most `most` in total."""
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
    """Multiply-accumulates per image of the forward passes of a training step, averaged over the training's phases."""
    full = _macs(params, dataset, params.widths.max, params.trained_sides(dataset)[0])
    low, high = params.widths.min, params.widths.max
    middles = [low + (high - low) * (part + 0.5) / _LOWERINGS for part in range(_LOWERINGS)]
    lowering = sum(_narrower(params, dataset, least) for least in middles) / _LOWERINGS
    rest = 1 - params.full_first - params.lowering
    return full + params.lowering * lowering + rest * _narrower(params, dataset, low)


def polish_macs(params: SlimmableParams, dataset: DatasetProfile) -> float:
    """Multiply-accumulates per image of the forward passes of one network's polish: its own, plus a third of its
    teacher's, which has no backward pass. The average over networks spread evenly over the candidates for polish."""
    costs = sorted(candidate.cost["macs"] for candidate in params.candidates(dataset))
    students = evenly([macs for macs in costs if macs <= POLISHED * costs[-1]], params.polish_networks)
    return sum(students) / max(1, len(students)) + costs[-1] / 3


def _narrower(params: SlimmableParams, dataset: DatasetProfile, least: float) -> float:
    """Cost of the sampled networks of a step, besides the full one, with widths of at least `least`."""
    sides = params.trained_sides(dataset)

    def mean(widths: list[float]) -> float:
        costs = [_macs(params, dataset, width, side) for width in widths for side in sides]
        return sum(costs) / len(costs)

    high = params.widths.max
    middles = [least + (high - least) * (part + 0.5) / _WIDTHS for part in range(_WIDTHS)]
    return mean([least]) + params.random_widths * mean(middles)


def _macs(params: SlimmableParams, dataset: DatasetProfile, width: float, side: int) -> int:
    return int(params.candidate(dataset, {"width": width, "resolution": side}).cost["macs"])
