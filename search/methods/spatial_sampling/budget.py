"""Initial networks and baselines of a search, their epochs and their bounds. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from paretofit.search.contracts.params import Config
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.latency import curve
from paretofit.search.methods.budget import equal_share
from paretofit.search.methods.spatial_sampling.params import SpatialSamplingParams, to_line

STARTUP: Final = 4
"""Networks with evenly spaced densities, before proposals from results."""
LEAST: Final = 0.01
"""The lowest density of a fixed budget."""
_STEPS: Final = 40


def axis(spec: ResolvedSpec) -> tuple[str, float, float]:
    """The searched parameter and its range; densities that a constraint on MACs excludes are left out."""
    params = spec.params(SpatialSamplingParams)
    if params.loss == "gamma":
        return "gamma", *params.gammas
    low, high = params.densities
    return "density", min(low, most := _most(spec, high)), most


def first(spec: ResolvedSpec) -> list[float]:
    """Values of the first networks, evenly spaced, the densest (lowest weight) first."""
    name, low, high = axis(spec)
    count = min(STARTUP, trainings(spec))
    if name == "gamma":
        found = [low * (high / low) ** (i / max(1, count - 1)) for i in range(count)]
    else:
        found = [high - (high - low) * i / max(1, count - 1) for i in range(count)]
    return list(dict.fromkeys(map(rounded, found)))


def rounded(value: float) -> float:
    """Rounded to three digits, as in names."""
    return float(f"{value:.3g}")


def baselines(spec: ResolvedSpec) -> list[dict[str, Any]]:
    """Configurations of all baselines: for each kind one per initial network."""
    params = spec.params(SpatialSamplingParams)
    name, _, _ = axis(spec)
    found: list[dict[str, Any]] = []
    for kind in params.baselines:
        for value in first(spec):
            if kind != "uniform":
                found.append({"baseline": kind, name: value})
            elif (side := _side(spec, value)) is not None:
                found.append({"baseline": kind, "side": side})
    return [config for i, config in enumerate(found) if config not in found[:i]]


def values(spec: ResolvedSpec) -> list[float]:
    """All values that can be chosen, ascending: the range in three digits, because bounds are rounded too."""
    _, low, high = axis(spec)
    low, high = rounded(low), rounded(high)
    found = [low]
    while found[-1] < high:
        step = 10.0 ** (math.floor(math.log10(found[-1])) - 2)
        found.append(rounded(found[-1] + step))
    return found


def trainings(spec: ResolvedSpec) -> int:
    """`trials`, or fewer if the range has fewer values or `max_epochs` less than one epoch for each."""
    params = spec.params(SpatialSamplingParams)
    trials = min(params.trials, len(values(spec)))
    most = spec.limits.max_epochs
    return trials if most is None else min(trials, most)


def epochs(spec: ResolvedSpec) -> int:
    """Epochs of each training: `epochs`, or an equal share of `max_epochs`."""
    params = spec.params(SpatialSamplingParams)
    count = trainings(spec) + len(baselines(spec))
    return max(1, equal_share(params.epochs, count, spec.limits.max_epochs, count))


def affordable_baselines(spec: ResolvedSpec) -> list[dict[str, Any]]:
    """Baselines, as many as there are epochs for."""
    most = spec.limits.max_epochs
    found = baselines(spec)
    return found if most is None else found[: max(0, most // epochs(spec) - trainings(spec))]


def fitting(spec: ResolvedSpec, config: Config, found: list[float]) -> list[float] | None:
    """Densities scaled down to meet the constraints, with latencies estimated from networks of one density; None if no
    scale meets them."""
    params = spec.params(SpatialSamplingParams)
    meets = _meets(spec)

    def scaled(factor: float) -> list[float]:
        # As written to configurations, rounded down.
        return [math.floor(1e4 * max(min(LEAST, d), factor * d)) / 1e4 for d in found]

    def fits(factor: float) -> bool:
        line = {**config, "mask_densities": to_line(scaled(factor))}
        return meets(params.candidate(spec.dataset, line).cost)

    factor = _largest(fits)
    return None if factor is None else scaled(factor)


def _most(spec: ResolvedSpec, high: float) -> float:
    """The highest density up to `high` that meets the constraints."""
    params = spec.params(SpatialSamplingParams)
    meets = _meets(spec)

    def fits(factor: float) -> bool:
        return meets(params.cost(spec.dataset, factor * high))

    return (_largest(fits) or 1.0) * high


def _meets(spec: ResolvedSpec) -> Callable[[Mapping[str, float]], bool]:
    """Whether the known costs meet the constraints."""
    counted = [bound for bound in spec.constraints if bound.device is None]
    most = curve.macs_within(spec, spec.candidates()) if spec.latencies else math.inf
    return lambda costs: costs["macs"] <= most and all(bound.holds(costs) for bound in counted)


def _side(spec: ResolvedSpec, density: float) -> int | None:
    """The largest side at which the plain network needs at most the MACs of the sampled one of a density. With loss
    gamma, whose densities are unknown, sides that decrease evenly from one value to the next."""
    params = spec.params(SpatialSamplingParams)
    profile = spec.dataset
    full = min(params.input_size(profile))
    if params.loss == "gamma":
        values = first(spec)
        allowed = params.cost(profile, 0.75 - 0.5 * values.index(density) / max(1, len(values) - 1))["macs"]
    else:
        allowed = params.cost(profile, density)["macs"]
    for side in range(full, 7, -1):
        if params.candidate(profile, {"side": side}).cost["macs"] <= allowed:
            return side
    return None


def _largest(fits: Callable[[float], bool]) -> float | None:
    """The largest feasible factor up to 1, by bisection; None if there is none."""
    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    if not fits(low):
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
