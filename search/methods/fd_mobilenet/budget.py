"""How many networks are trained, and for how many epochs each. Torch-free."""

from __future__ import annotations

from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.spec import ResolvedSpec


def trainings(spec: ResolvedSpec) -> int:
    """By `trials`; fewer where `max_trials` allows fewer, `max_epochs` has not one epoch for each, or there are no more
    networks to train."""
    params: FdMobileNetParams = spec.method
    limits = [most for most in (spec.limits.max_trials, spec.limits.max_epochs) if most is not None]
    return min([params.trainings(len(spec.feasible())), *limits])


def epochs(spec: ResolvedSpec, index: int) -> int:
    """Of training `index`: by `epochs`, or an equal share of `max_epochs`, the first ones getting the remainder."""
    params: FdMobileNetParams = spec.method
    most = spec.limits.max_epochs
    count = trainings(spec)
    if most is None or most >= count * params.epochs:
        return params.epochs
    each, over = divmod(most, count)
    return each + (index < over)
