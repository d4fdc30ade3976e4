"""How many networks are trained, and for how many epochs each. Torch-free."""

from __future__ import annotations

from search.methods.fd_mobilenet.params import FdMobileNetParams
from search.spec import ResolvedSpec


def trainings(spec: ResolvedSpec) -> int:
    """By `trials`; fewer where `max_epochs` has not one epoch for each."""
    params: FdMobileNetParams = spec.method
    most = spec.limits.max_epochs
    return params.trials if most is None else min(params.trials, most)


def epochs(spec: ResolvedSpec, index: int) -> int:
    """Of training `index`: by `epochs`, or an equal share of `max_epochs`, the first ones getting the remainder."""
    params: FdMobileNetParams = spec.method
    most = spec.limits.max_epochs
    if most is None or most >= params.trials * params.epochs:
        return params.epochs
    each, over = divmod(most, trainings(spec))
    return each + (index < over)
