"""Plan of the search: composes the plans of its members, each of which sees its own trials only.

First the plain network: the most expensive one that meets the constraints, trained on its own by the default recipe.
The front is never worse than that, and there is a usable point early. Its duration predicts the others: a training is
only planned if it fits into the time that is left. A network with shared weights follows, with fewer epochs if need be;
its sweep and polish cover the costs below. More networks of their own use the rest of the time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from math import inf
from statistics import median
from typing import Any, Final, Literal

from paretofit.search.contracts.plan import ACTIVE, NewTrial, Plan, TrialRecord
from paretofit.search.contracts.spec import RESERVE, Constraint, ResolvedSpec
from paretofit.search.methods.auto.params import MEMBER, AutoParams
from paretofit.search.methods.fd_mobilenet import budget as singles_budget
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.methods.mutualnet import budget
from paretofit.search.methods.mutualnet.params import MutualNetParams
from paretofit.search.methods.mutualnet.plan import POLISH, SWEEP_STAGE

SINGLE: Final = "fd_mobilenet"
SHARED: Final = "mutualnet"
PARALLEL: Final = 2
"""Trials that are queued or running at a time without `max_parallel_trials`: one runs while the next one waits."""
PRIOR_RATE: Final = 3e9
"""Multiply-accumulates of forward passes per second of training before any training has ended: one core of a CPU."""
PLAIN: Final = 0.7
"""Largest share of the time for the plain network, by the prior rate."""
LEAST: Final = 1 / 3
"""A shared training is not planned if it would have to be shorter than this share of its length."""
_LEAST_TRIALS: Final = 2
"""Trials of a shared training: itself and its sweep."""


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """The next trials of the members, as far as there is time for them. Infeasible networks are never trained."""
    kinds: tuple[str, ...] = spec.params(AutoParams).members
    members = {kind: MemberSearch(spec, kind, history) for kind in kinds}
    members = {kind: member for kind, member in members.items() if member.takes_part}
    clock = Clock(spec, members, history)
    room = (spec.limits.max_parallel_trials or PARALLEL) - sum(record.state in ACTIVE for record in history)
    single, shared = members.get(SINGLE), members.get(SHARED)
    if single is not None and not single.history:
        return Plan(trials=(_plain(single, clock),))
    if clock.is_limited and not clock.rates and any(record.state in ACTIVE for record in history):
        # The duration of the first training is not known yet.
        return Plan()
    plans = []
    if shared is not None:
        plans.append(_shared(shared, clock, room))
    if single is not None:
        taken = sum(len(each.trials) for each in plans)
        plans.append(_singles(single, clock, min(room, clock.trials_left) - taken))
    return Plan(
        trials=tuple(new for each in plans for new in each.trials),
        done=all(each.done for each in plans),
        stop_reason=next((each.stop_reason for each in plans if each.stop_reason is not None), None),
    )


class MemberSearch:
    """A member's part of the search: its specification, and its own trials, numbered from 0."""

    def __init__(self, spec: ResolvedSpec, kind: str, history: Sequence[TrialRecord]) -> None:
        own = [record for record in history if record.params[MEMBER] == kind]
        limits = spec.limits.model_copy(update={"max_trials": None, "max_epochs": _epochs(spec, kind)})
        if (most := spec.limits.max_trials) is not None:
            limits = limits.model_copy(update={"max_trials": max(1, most - len(history) + len(own))})
        method = spec.params(AutoParams).member(kind)
        if isinstance(method, FdMobileNetParams) and limits.max_epochs:
            # Rather fewer networks than shorter trainings.
            method = method.model_copy(
                update={"trials": max(1, min(method.trials, limits.max_epochs // method.epochs))}
            )
        self.kind = kind
        self.spec = spec.model_copy(update={"method": method, "limits": limits})
        self.history = [
            record.model_copy(
                update={"number": number, "params": {k: v for k, v in record.params.items() if k != MEMBER}}
            )
            for number, record in enumerate(own)
        ]
        self._numbers = [record.number for record in own]

    @property
    def takes_part(self) -> bool:
        """Whether it has a feasible network and an epoch."""
        return self.spec.limits.max_epochs != 0 and bool(self.history or self.spec.feasible())

    @property
    def images(self) -> int:
        """Training images."""
        return self.spec.dataset.images["train"]

    def plan(self, spec: ResolvedSpec, sees: Callable[[TrialRecord], bool] | None = None) -> Plan:
        """The member's plan by a specification, from those of its trials that it `sees`; as trials of this search."""
        seen = [record for record in self.history if sees is None or sees(record)]
        numbers = [self._numbers[record.number] for record in seen]
        renumbered = [record.model_copy(update={"number": number}) for number, record in enumerate(seen)]
        planned: Plan = import_module(f"paretofit.search.methods.{self.kind}.plan").plan(spec, renumbered)
        trials = tuple(self.trial(new, numbers) for new in planned.trials)
        return planned.model_copy(update={"trials": trials})

    def trial(self, new: NewTrial, numbers: Sequence[int] = ()) -> NewTrial:
        """A trial of the member as one of the whole search; `numbers` are those of the trials that it refers to."""
        inputs = {
            name: source if source.trial is None else source.model_copy(update={"trial": numbers[source.trial]})
            for name, source in new.inputs.items()
        }
        params = {MEMBER: self.kind, **new.params}
        if "rivals" in params:
            params["rivals"] = [{**rival, "trial": numbers[rival["trial"]]} for rival in params["rivals"]]
        return new.model_copy(update={"params": params, "inputs": inputs})

    def macs(self, params: dict[str, Any]) -> float:
        """Multiply-accumulates of the forward passes of a trial's training, given its parameters. A sweep counts as the
        training that takes as long; other trials as nothing."""
        if params.get("stage") == SWEEP_STAGE:
            return self.sweep_macs
        if "epochs" not in params:
            return 0.0
        return self._step_macs(params) * self.images * float(params["epochs"])

    @cached_property
    def sweep_macs(self) -> float:
        """Forward passes of the calibration and the measurement of every network, a third as long as those of training,
        which include the backward pass."""
        method, images = self.spec.params(MutualNetParams), self.spec.dataset.images
        passed = min(method.calibration_images, images["train"]) + images["selection"]
        return sum(float(each.cost["macs"]) for each in self.spec.feasible()) * passed / 3

    def _step_macs(self, params: dict[str, Any]) -> float:
        method = self.spec.method
        if isinstance(method, MutualNetParams) and "config" not in params and "width" not in params:
            return budget.step_macs(method, self.spec.dataset)
        if params.get("stage") == POLISH:
            return budget.polish_macs(self.spec.params(MutualNetParams), self.spec.dataset)
        config = params.get("config") or {name: params[name] for name in ("width", "resolution")}
        return float(method.candidate(self.spec.dataset, config).cost["macs"])


@dataclass
class Clock:
    """Predicts durations from those of earlier trainings, and knows the time that is left, in seconds of computation.

    The time limits count without the reserve in which trials report, and as for one worker. Active trials are expected
    to need their predicted time, and a shared training its sweep."""

    spec: ResolvedSpec
    members: dict[str, MemberSearch]
    history: Sequence[TrialRecord]

    @property
    def limit(self) -> Literal["max_wall_seconds", "max_device_seconds"]:
        """The time limit that is met first."""
        return min(self._totals, key=lambda name: self._totals[name])

    @property
    def is_limited(self) -> bool:
        return self.total < inf

    @cached_property
    def total(self) -> float:
        return (1 - RESERVE) * min(self._totals.values())

    @cached_property
    def _totals(self) -> dict[Literal["max_wall_seconds", "max_device_seconds"], float]:
        limits = self.spec.limits
        return {
            "max_wall_seconds": limits.max_wall_seconds or inf,
            "max_device_seconds": limits.max_device_seconds or inf,
        }

    @property
    def trials_left(self) -> int:
        """Trials that may still be planned, without the one reserved for a sweep."""
        most = self.spec.limits.max_trials
        return sys.maxsize if most is None else most - len(self.history) - self._sweep_follows

    @cached_property
    def rates(self) -> list[float]:
        """Multiply-accumulates per second of the trainings that have ended."""
        found = []
        for record in self.history:
            epochs = (record.outputs or {}).get("epochs")
            if record.state not in ACTIVE and epochs and record.seconds > 0 and record.params[MEMBER] in self.members:
                found.append(self._macs({**record.params, "epochs": epochs}) / record.seconds)
        return found

    @property
    def rate(self) -> float:
        return median(self.rates) if self.rates else PRIOR_RATE

    @cached_property
    def left(self) -> float:
        if not self.is_limited:
            return inf
        spent = sum(record.seconds for record in self.history if record.state not in ACTIVE)
        reserved = sum(self.seconds(record.params) for record in self.history if record.state in ACTIVE)
        return self.total - spent - reserved - (self.sweep_seconds if self._sweep_follows else 0.0)

    @property
    def sweep_seconds(self) -> float:
        """Predicted duration of the sweep of the member with shared weights."""
        return self.members[SHARED].sweep_macs / self.rate

    @property
    def _sweep_follows(self) -> bool:
        """Whether a shared training is active, whose sweep is not planned yet."""
        shared = self.members.get(SHARED)
        return shared is not None and len(shared.history) == 1 and shared.history[0].state in ACTIVE

    def seconds(self, params: dict[str, Any]) -> float:
        """Predicted duration of a trial of the search, given its parameters."""
        return self._macs(params) / self.rate if params[MEMBER] in self.members else 0.0

    def reserve(self, seconds: float) -> None:
        """Account for what is about to be planned."""
        self.left -= seconds

    def _macs(self, params: dict[str, Any]) -> float:
        return self.members[params[MEMBER]].macs(params)


def _plain(single: MemberSearch, clock: Clock) -> NewTrial:
    """The most expensive feasible network whose training fits into its share of the time, or else the cheapest one."""
    epochs = singles_budget.epochs(single.spec, 0)
    trials = [
        single.trial(NewTrial(params={"config": each.config, "recipe": {}, "epochs": epochs, "rivals": []}))
        for each in sorted(single.spec.feasible(), key=lambda each: (each.cost["macs"], each.key))
    ]
    affordable = [new for new in trials if clock.seconds(new.params) <= PLAIN * clock.total]
    return (affordable or trials[:1])[-1]


def _shared(shared: MemberSearch, clock: Clock, room: int) -> Plan:
    """The next trials of the member with shared weights: its training, shortened to the time, or what follows it."""
    params = shared.spec.params(MutualNetParams)
    epochs = params.epochs
    if shared.history:
        epochs = shared.history[0].params["epochs"]
    else:
        if clock.trials_left < _LEAST_TRIALS:
            return Plan(done=True, stop_reason="max_trials")
        if clock.is_limited:
            affordable = (clock.left - clock.sweep_seconds) * clock.rate
            epochs = min(epochs, int(affordable / (budget.step_macs(params, shared.spec.dataset) * shared.images)))
        if epochs < LEAST * params.epochs:
            return Plan(done=True, stop_reason=clock.limit)
        if room <= 0:
            return Plan()
    spec = shared.spec.model_copy(update={"method": params.model_copy(update={"epochs": epochs})})
    planned = _within(shared.plan(spec), clock, room)
    if not shared.history:
        clock.reserve(clock.sweep_seconds)
    return planned


def _singles(single: MemberSearch, clock: Clock, room: int) -> Plan:
    """More networks of their own, among those whose training fits into the time that is left."""
    params = single.spec.params(FdMobileNetParams)
    tried = [record.params["config"] for record in single.history]
    untried = [each for each in single.spec.feasible() if each.config not in tried]
    wanted = params.trials - len(tried)
    if not untried or wanted <= 0:
        return Plan(done=True)
    most = inf
    if clock.is_limited:
        most = clock.left * clock.rate / (params.epochs * single.images)
        untried = [each for each in untried if each.cost["macs"] <= most]
        if not untried:
            return Plan(done=True, stop_reason=clock.limit)
    if room <= 0:
        return Plan()
    seen = [config for config in tried if single.spec.candidate(config).cost["macs"] <= most]
    changes: dict[str, Any] = {"method": params.model_copy(update={"trials": len(seen) + wanted})}
    if most < inf:
        fits = Constraint(metric="macs", value=most)
        changes["constraints"] = (*single.spec.constraints, fits)
    spec = single.spec.model_copy(update=changes)
    return _within(single.plan(spec, lambda record: record.params["config"] in seen), clock, room)


def _within(planned: Plan, clock: Clock, room: int) -> Plan:
    """The trials of a plan for which there is room and time; those that are left out for lack of room come later."""
    kept: list[NewTrial] = []
    late = False
    for new in planned.trials:
        if clock.seconds(new.params) > clock.left and new.params.get("stage") != SWEEP_STAGE:
            late = True
        elif len(kept) < room:
            kept.append(new)
            clock.reserve(clock.seconds(new.params))
        else:
            return planned.model_copy(update={"trials": tuple(kept), "done": False})
    reason = clock.limit if late else planned.stop_reason
    return planned.model_copy(update={"trials": tuple(kept), "stop_reason": reason})


def _epochs(spec: ResolvedSpec, kind: str) -> int | None:
    """A member's part of `max_epochs`: half, unless it is the only one. 0: it takes no part."""
    most, members = spec.limits.max_epochs, spec.params(AutoParams).members
    if most is None or len(members) == 1:
        return most
    return most // 2 if kind == SHARED else most - most // 2
