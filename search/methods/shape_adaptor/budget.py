"""What each network of a search must fit, and how many are trained for how long. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

from paretofit.models.cost import cost
from paretofit.models.families.shapes import Rule, Shape, Sizes, shaped
from paretofit.search.latency import curve
from paretofit.search.methods.method import Config
from paretofit.search.methods.shape_adaptor.params import HUMAN, ShapeAdaptorParams
from paretofit.search.spec import CostMetric, ResolvedSpec


def macs(spec: ResolvedSpec, config: Config) -> float | None:
    """The most that a network may take: by its target and the constraints, those on latencies by what networks with
    adaptors at the same places were measured to take; None: any."""
    params: ShapeAdaptorParams = spec.method
    target = params.macs(spec.dataset, config)
    bounds = [bound.value for bound in spec.constraints if bound.metric == "macs"]
    if curve.bounded(spec) and spec.latencies:
        rule = params.rule(spec.dataset, config)
        alike = [each for each in spec.candidates() if params.rule(spec.dataset, each.config) == rule]
        bounds.append(curve.macs_within(spec, alike))
    most = min([*([] if target is None else [target]), *bounds], default=math.inf)
    return most if math.isfinite(most) else None


def fits(spec: ResolvedSpec, config: Config, rule: Rule) -> Callable[[Sizes], bool]:
    """Whether sizes are within the target and every constraint on what arithmetic tells."""
    most = macs(spec, config)
    others = [bound for bound in spec.constraints if bound.metric in get_args(CostMetric) and bound.metric != "macs"]

    def check(sizes: Sizes) -> bool:
        if most is not None and rule.macs(sizes) > most:
            return False
        if not others:
            return True
        costs = cost(shaped(rule.network, Shape(sizes, (0.5,) * len(sizes))), rule.size).as_dict()
        return all(bound.holds(costs) for bound in others)

    return check


def humans(spec: ResolvedSpec) -> list[dict[str, Any]]:
    """The human-designed networks to train: those that meet the constraints, or that others start from."""
    params: ShapeAdaptorParams = spec.method
    configs = [{"family": family, "mode": HUMAN} for family in params.families if params.human]
    known = [bound for bound in spec.constraints if bound.device is None]
    return [
        config
        for config in configs
        if params.trains_start or all(bound.holds(params.candidate(spec.dataset, config).cost) for bound in known)
    ]


def randoms(spec: ResolvedSpec) -> int:
    """Random shapes that are trained."""
    params: ShapeAdaptorParams = spec.method
    return params.random_shapes * len(params.families) * sum(target > 0 for target in params.targets)


def trainings(spec: ResolvedSpec, learned: int) -> int:
    """Of all kinds, `learned` of them being of those whose shape is; fewer where `max_epochs` has not one epoch for
    each."""
    every = learned + len(humans(spec)) + randoms(spec)
    most = spec.limits.max_epochs
    return every if most is None else min(every, most)


def epochs(spec: ResolvedSpec, learned: int, number: int) -> int:
    """Of the training of trial `number`: by `epochs`, or an equal share of `max_epochs`, the first ones getting the
    rest."""
    params: ShapeAdaptorParams = spec.method
    most, count = spec.limits.max_epochs, trainings(spec, learned)
    if most is None or most >= count * params.epochs:
        return params.epochs
    each, over = divmod(most, count)
    return each + (number < over)
