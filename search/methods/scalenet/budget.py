"""What each network of a search must fit, and how long each training may take. Torch-free."""

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
    """Of the seed network, and of each network of those that can be trained: the first `networks`."""

    seed: int
    each: int
    networks: int

    @property
    def total(self) -> int:
        return self.seed + self.each * self.networks


def metric(spec: ResolvedSpec) -> str:
    """What budgets are counted in, as points' metrics call it."""
    of: str = spec.params(ScaleNetParams).budget_metric
    return metric_key(of, spec.devices[0] if of == "latency_ms" else None)


def targets(spec: ResolvedSpec) -> tuple[float, ...]:
    """The budgets, growing; those beyond a constraint on the same cost are that constraint, once."""
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
    """Raises TrialEndedError if the least network was measured to take more than the largest budget."""
    least = spec.candidate({"extreme": "least"})
    taken, most = least.cost.get(metric(spec)), targets(spec)[-1]
    if taken is None or taken <= most:
        return
    detail = (
        f"budgets: {most:g} ms on {spec.devices[0]} is met by no network; the fastest that was measured takes "
        f"{taken:.3g} ms: use larger budgets, or lower base_width"
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
    """By `seed_epochs` and `epochs`; in proportion where `most` are too few for all, at least one each, the last
    networks being left out where there are not even so many."""
    params = spec.params(ScaleNetParams)
    networks = len(targets(spec)) * (1 + len(params.baselines))
    return Epochs(*proportional(params.seed_epochs or params.epochs, params.epochs, networks, most))


def seconds(spec: ResolvedSpec, trained: int) -> float:
    """Of the time limits, the share of a training of so many epochs, as if trainings ran one after another, or as many
    at once as `max_parallel_trials` says: without it the seed's would leave none for the networks."""
    limits, planned = spec.limits, epochs(spec, spec.limits.max_epochs)
    rounds = -(-planned.networks // (limits.max_parallel_trials or 1))
    return min(
        (1 - RESERVE) * (limits.max_device_seconds or math.inf) * trained / planned.total,
        (1 - RESERVE) * (limits.max_wall_seconds or math.inf) * trained / (planned.seed + planned.each * rounds),
    )


@dataclass(slots=True)
class TimeLimitedReporter(ForwardingReporter):
    """Asks for the limit once its seconds are over: a training that leaves time for those after it."""

    seconds: float
    began: float = field(default_factory=time.monotonic)

    def should_stop(self) -> Stop:
        """What the reporter was asked comes first."""
        asked = self.reporter.should_stop()
        return Stop.LIMIT if asked is Stop.NO and time.monotonic() - self.began >= self.seconds else asked
