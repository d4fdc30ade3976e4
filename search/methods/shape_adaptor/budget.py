"""Bounds of each network of a search, and number and epochs of the trainings. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

from paretofit.models.cost import cost
from paretofit.models.families.shapes import Rule, Shape, Sizes, shaped
from paretofit.search.contracts.params import Config
from paretofit.search.contracts.spec import CostMetric, ResolvedSpec
from paretofit.search.latency import curve
from paretofit.search.methods.budget import equal_share
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.space import HUMAN


def macs(spec: ResolvedSpec, config: Config) -> float | None:
    """Upper bound of a network's multiply-accumulates: its target and the constraints, with latency bounds estimated
    from measured networks with adaptors at the same places; None without any."""
    params = spec.params(ShapeAdaptorParams)
    target = params.space(spec.dataset, config).target_macs
    bounds = [bound.value for bound in spec.constraints if bound.metric == "macs"]
    if curve.bounded(spec) and spec.latencies:
        rule = params.space(spec.dataset, config).rule
        alike = [each for each in spec.candidates() if params.space(spec.dataset, each.config).rule == rule]
        bounds.append(curve.macs_within(spec, alike))
    most = min([*([] if target is None else [target]), *bounds], default=math.inf)
    return most if math.isfinite(most) else None


def fits(spec: ResolvedSpec, config: Config, rule: Rule) -> Callable[[Sizes], bool]:
    """Whether sizes meet the target and every constraint on a computed cost."""
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
    params = spec.params(ShapeAdaptorParams)
    configs = [{"family": family, "mode": HUMAN} for family in params.families if params.human]
    known = [bound for bound in spec.constraints if bound.device is None]
    return [
        config
        for config in configs
        if params.trains_start or all(bound.holds(params.candidate(spec.dataset, config).cost) for bound in known)
    ]


def randoms(spec: ResolvedSpec) -> int:
    """Random shapes to train."""
    params = spec.params(ShapeAdaptorParams)
    return params.random_shapes * len(params.families) * sum(target > 0 for target in params.targets)


def trainings(spec: ResolvedSpec, learned: int) -> int:
    """Trainings of all kinds, `learned` of them with a learned shape; fewer if `max_epochs` has less than one epoch for
    each."""
    every = learned + len(humans(spec)) + randoms(spec)
    most = spec.limits.max_epochs
    return every if most is None else min(every, most)


def epochs(spec: ResolvedSpec, learned: int, number: int) -> int:
    """Epochs of trial `number`: `epochs`, or an equal share of `max_epochs`; the first trainings get the remainder."""
    params = spec.params(ShapeAdaptorParams)
    return equal_share(params.epochs, trainings(spec, learned), spec.limits.max_epochs, number)
