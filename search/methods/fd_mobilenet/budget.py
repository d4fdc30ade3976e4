"""Number of networks to train, and epochs of each. Torch-free."""

from __future__ import annotations

from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.budget import equal_share
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams


def trainings(spec: ResolvedSpec) -> int:
    """`trials`, or fewer if `max_trials` or the number of distinct networks is lower, or if `max_epochs` has less than
    one epoch for each."""
    params = spec.params(FdMobileNetParams)
    limits = [most for most in (spec.limits.max_trials, spec.limits.max_epochs) if most is not None]
    return min([params.trainings(len(spec.feasible())), *limits])


def epochs(spec: ResolvedSpec, index: int) -> int:
    """Epochs of training `index`: `epochs`, or an equal share of `max_epochs`; the first trainings get the
    remainder."""
    params = spec.params(FdMobileNetParams)
    return equal_share(params.epochs, trainings(spec), spec.limits.max_epochs, index)
