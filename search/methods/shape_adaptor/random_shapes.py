"""Random shapes of a network, as baselines of learned ones. Torch-free.

Source: Liu et al. (arXiv 2008.00892), section 4.3, which trains 200 of VGG-16. Ours have the cost of a target.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from paretofit.models.families.shapes import TooCostlyError
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.shape_adaptor import budget
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.space import RANDOM

_SPREAD: Final = 2.0
"""Standard deviation of the alphas: two thirds of the factors are from 0.56 to 0.94."""


def requested(spec: ResolvedSpec) -> list[dict[str, Any]]:
    """Configurations for each family and target, without their shapes."""
    params = spec.params(ShapeAdaptorParams)
    return [
        {
            "family": family,
            "mode": RANDOM,
            "adaptors": params.numbers(spec.dataset, family, "standard")[0],
            "target": target,
            "draw": draw,
        }
        for family in params.families
        for target in params.targets
        if target
        for draw in range(params.random_shapes)
    ]


def drawn(spec: ResolvedSpec, config: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration with its shape, sampled by the search's seed; None if no shape meets the constraints."""
    params = spec.params(ShapeAdaptorParams)
    random = Random(f"shape:{spec.seed}:{config['family']}:{config['target']:g}:{config['draw']}")
    rule = params.space(spec.dataset, config).rule
    alphas = [random.gauss(0, _SPREAD) for _ in range(rule.count)]
    try:
        return config | {"shape": rule.fitted(alphas, budget.fits(spec, config, rule), grows=True).written()}
    except TooCostlyError:
        return None
