"""Bounds of each network of a search, and durations of the trainings. Torch-free."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from paretofit.search.contracts.spec import RESERVE, ResolvedSpec, metric_key
from paretofit.search.contracts.trial import ForwardingReporter, Stop, TrialEndedError
from paretofit.search.methods.budget import proportional
from paretofit.search.methods.scalenet.params import ScaleNetParams


@dataclass(frozen=True, slots=True)
class Epochs:
    """Epochs of the seed network, and of each of the first `networks` that can be trained."""

    seed: int
    each: int
    networks: int

    @property
    def total(self) -> int:
        return self.seed + self.each * self.networks


def metric(spec: ResolvedSpec) -> str:
    """Metric of the budgets, as named in points' metrics."""
    of: str = spec.params(ScaleNetParams).budget_metric
    return metric_key(of, spec.devices[0] if of == "latency_ms" else None)


def targets(spec: ResolvedSpec) -> tuple[float, ...]:
    """The budgets in ascending order; those above a constraint on the same cost are replaced by that constraint,
    once."""
    params = spec.params(ScaleNetParams)
    bounds = [bound.value for bound in spec.constraints if bound.key == metric(spec)]
    return tuple(dict.fromkeys(min([target, *bounds]) for target in params.targets(spec.dataset)))


def bounds(spec: ResolvedSpec, target: float) -> dict[str, float]:
    """Upper bounds by metric: the budget, and every constraint."""
    found: dict[str, float] = {metric(spec): target}
    for bound in spec.constraints:
        found[bound.key] = min(found.get(bound.key, bound.value), bound.value)
    return found


def require_feasible(spec: ResolvedSpec) -> None:
    """Raises TrialEndedError if the smallest network was measured to exceed the largest budget."""
    least = spec.candidate({"extreme": "least"})
    taken, most = least.cost.get(metric(spec)), targets(spec)[-1]
    if taken is None or taken <= most:
        return
    detail = (
        f"budgets: no network meets {most:g} ms on {spec.devices[0]}; the fastest measured one takes {taken:.3g} "
        "ms: use larger budgets, or lower base_width"
    )
    nearest = {
        "metric": "latency_ms",
        "device": spec.devices[0],
        "value": taken,
        "key": least.key,
        "config": least.config,
    }
    raise TrialEndedError("infeasible", {}, {"code": "infeasible", "detail": detail, "nearest": [nearest]})


def epochs(spec: ResolvedSpec, most: int | None) -> Epochs:
    """Epochs by `seed_epochs` and `epochs`, or in proportion if `most` is too low, at least one each. Networks without
    an epoch are left out, the last ones first."""
    params = spec.params(ScaleNetParams)
    networks = len(targets(spec)) * (1 + len(params.baselines))
    return Epochs(*proportional(params.seed_epochs or params.epochs, params.epochs, networks, most))


def seconds(spec: ResolvedSpec, trained: int) -> float:
    """Share of the time limits for a training of this many epochs, with trainings one after another, or
    `max_parallel_trials` at once. Without it the seed network would use up the time of the others."""
    limits, planned = spec.limits, epochs(spec, spec.limits.max_epochs)
    rounds = -(-planned.networks // (limits.max_parallel_trials or 1))
    return min(
        (1 - RESERVE) * (limits.max_device_seconds or math.inf) * trained / planned.total,
        (1 - RESERVE) * (limits.max_wall_seconds or math.inf) * trained / (planned.seed + planned.each * rounds),
    )


@dataclass(slots=True)
class TimeLimitedReporter(ForwardingReporter):
    """Requests the limit's stop once its seconds are over, to leave time for later trainings."""

    seconds: float
    began: float = field(default_factory=time.monotonic)

    def should_stop(self) -> Stop:
        """A stop of the wrapped reporter takes precedence."""
        requested = self.reporter.should_stop()
        return Stop.LIMIT if requested is Stop.NO and time.monotonic() - self.began >= self.seconds else requested
