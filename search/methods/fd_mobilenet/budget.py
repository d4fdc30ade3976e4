"""How many networks are trained, and for how many epochs each. Torch-free."""

from __future__ import annotations

from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.budget import equal_share
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams


def trainings(spec: ResolvedSpec) -> int:
    """By `trials`; fewer where `max_trials` allows fewer, `max_epochs` has not one epoch for each, or there are no more
    networks to train."""
    params = spec.params(FdMobileNetParams)
    limits = [most for most in (spec.limits.max_trials, spec.limits.max_epochs) if most is not None]
    return min([params.trainings(len(spec.feasible())), *limits])


def epochs(spec: ResolvedSpec, index: int) -> int:
    """Of training `index`: by `epochs`, or an equal share of `max_epochs`, the first ones getting the remainder."""
    params = spec.params(FdMobileNetParams)
    return equal_share(params.epochs, trainings(spec), spec.limits.max_epochs, index)
