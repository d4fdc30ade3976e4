"""Plan of `auto`, against a simulated fleet: trials take as long as their multiply-accumulates say, and may fail."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paretofit.search import scheduler
from paretofit.search.contracts.plan import ACTIVE, NewTrial, Plan, TrialRecord, TrialState
from paretofit.search.contracts.spec import RESERVE, ResolvedSpec, SearchSpec
from paretofit.search.methods.auto.params import MEMBER, AutoParams
from paretofit.search.methods.auto.plan import PLAIN, PRIOR_RATE, SHARED, SINGLE, Clock, MemberSearch, plan
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.methods.mutualnet.params import MutualNetParams
from paretofit.search.scheduler import SearchResult, Snapshot, Spent
from tests.search.methods.test_recipe import profile

PHOTOS = profile(3068, 128)
SIDES = [128, 96]


def resolved(
    limits: dict[str, Any] | None = None, constraints: Sequence[dict[str, Any]] = (), **method: Any
) -> ResolvedSpec:
    body = {
        "name": "auto",
        "dataset_id": "local",
        "method": {"kind": "auto", "resolutions": SIDES, **method},
        "limits": limits or {},
        "constraints": list(constraints),
    }
    return SearchSpec.model_validate(body).resolve(PHOTOS)


class Fleet:
    """Runs a search in simulated time. `rate`: multiply-accumulates per second of each worker; `overhead`: seconds of
    each trial besides training; `fails`: the state in which a trial ends, given its number and parameters."""

    def __init__(
        self,
        spec: ResolvedSpec,
        *,
        rate: float = PRIOR_RATE,
        workers: int = 1,
        overhead: float = 2.0,
        fails: Callable[[int, dict[str, Any]], TrialState] = lambda number, params: "completed",
    ) -> None:
        self.spec, self.rate, self.workers, self.overhead, self.fails = spec, rate, workers, overhead, fails
        self.history: list[TrialRecord] = []
        self.trials: list[NewTrial] = []
        self.time = 0.0
        self.most_active = 0
        self.truncated: list[dict[str, Any]] = []

    def run(self) -> SearchResult:
        """Until the search ends."""
        running: list[tuple[float, int, float]] = []
        while True:
            while (result := self._schedule()) is None:
                queued = [record.number for record in self.history if record.state == "queued"]
                if not queued or len(running) == self.workers:
                    break
                self._move(queued[0], "running")
                seconds, share = self._duration(self.trials[queued[0]].params)
                heapq.heappush(running, (self.time + seconds, queued[0], share))
            if result is not None:
                return result
            assert running, "the search waits for nothing"
            ends, number, share = heapq.heappop(running)
            began = self.time
            self.time = max(self.time, ends)
            assert self.time >= began
            self._end(number, share)

    def _schedule(self) -> SearchResult | None:
        device = sum(record.seconds for record in self.history)
        snapshot = Snapshot(self.spec.limits, tuple(self.history), Spent(self.time, device))
        decision = scheduler.enforce_limits(snapshot)
        for number in decision.cancel:
            self._move(number, "cancelled")
        if decision.plan_from is not None:
            planned = plan(self.spec, decision.plan_from.history)
            assert planned == plan(self.spec, decision.plan_from.history)
            self._check_time(planned)
            decision = scheduler.apply_plan(decision.plan_from, planned)
            for new in decision.queue:
                self.history.append(TrialRecord(number=len(self.history), state="queued", params=new.params))
                self.trials.append(new)
        self.most_active = max(self.most_active, sum(record.state in ACTIVE for record in self.history))
        return decision.result

    def _check_time(self, planned: Plan) -> None:
        """What is planned fits into the time that is left, as far as it can be predicted."""
        if not self.history:
            return
        kinds: tuple[str, ...] = self.spec.params(AutoParams).members
        members = {kind: MemberSearch(self.spec, kind, self.history) for kind in kinds}
        clock = Clock(self.spec, members, self.history)
        later = [new.params for new in planned.trials if new.params.get("stage") != "sweep"]
        assert sum(map(clock.seconds, later)) <= max(0.0, clock.left) * 1.001

    def _duration(self, params: dict[str, Any]) -> tuple[float, float]:
        """Seconds of a trial that starts now, and the fraction of its training before it is asked to stop."""
        member = MemberSearch(self.spec, params[MEMBER], self.history)
        whole = member.macs({key: value for key, value in params.items() if key != MEMBER}) / self.rate
        limit = self.spec.limits.max_wall_seconds
        if limit is None:
            return whole + self.overhead, 1.0
        left = max(0.0, (1 - RESERVE) * limit - self.time)
        if whole + self.overhead <= left:
            return whole + self.overhead, 1.0
        self.truncated.append(params)
        return min(left, whole) + min(self.overhead, RESERVE * limit / 2), min(1.0, left / whole) if whole else 1.0

    def _end(self, number: int, share: float) -> None:
        new = self.trials[number]
        state = self.fails(number, new.params)
        member = MemberSearch(self.spec, new.params[MEMBER], self.history)
        params = {key: value for key, value in new.params.items() if key != MEMBER}
        seconds = member.macs(params) * share / self.rate + self.overhead
        outputs: dict[str, Any] = {}
        points: list[dict[str, float]] = []
        if state == "completed":
            if "epochs" in params:
                outputs = {"epochs": params["epochs"] * share}
            configs = [params["config"]] if "config" in params else []
            if params.get("stage") == "sweep":
                configs = [each.config for each in member.spec.feasible()]
                outputs["polish"] = {"teacher": configs[-1], "networks": configs[:4]}
            for config in configs:
                cost = member.spec.candidate(config).cost
                points.append({**cost, "selection_top1": 0.5 + 0.01 * len(str(cost["macs"]))})
        error = {"code": "not_learning", "detail": "simulated"} if state == "failed" else None
        changes = {"outputs": outputs, "points": tuple(points), "seconds": seconds, "error": error}
        self._move(number, state, **changes)

    def _move(self, number: int, state: TrialState, **changes: Any) -> None:
        self.history[number] = self.history[number].model_copy(update={"state": state, **changes})


def stages(fleet: Fleet) -> list[tuple[str, str]]:
    return [(new.params[MEMBER], new.params.get("stage", "network")) for new in fleet.trials]


def test_plain_network_comes_first_and_is_the_most_expensive_one() -> None:
    spec = resolved()
    [first] = plan(spec, []).trials
    single = MemberSearch(spec, SINGLE, [])
    assert first.params[MEMBER] == SINGLE
    cost = single.spec.candidate(first.params["config"]).cost["macs"]
    assert cost == max(each.cost["macs"] for each in single.spec.feasible())
    bounded = resolved(constraints=[{"metric": "macs", "value": cost / 2}])
    [first] = plan(bounded, []).trials
    assert single.spec.candidate(first.params["config"]).cost["macs"] <= cost / 2


def test_plain_network_leaves_time_for_the_others() -> None:
    limit = 600.0
    spec = resolved({"max_wall_seconds": limit})
    [first] = plan(spec, []).trials
    single = MemberSearch(spec, SINGLE, [])
    seconds = single.macs({key: value for key, value in first.params.items() if key != MEMBER}) / PRIOR_RATE
    assert seconds <= PLAIN * (1 - RESERVE) * limit
    [first] = plan(resolved({"max_wall_seconds": 1.0}), []).trials
    assert single.spec.candidate(first.params["config"]).cost["macs"] == min(
        each.cost["macs"] for each in single.spec.feasible()
    )


def test_nothing_is_planned_without_a_feasible_network() -> None:
    spec = resolved(constraints=[{"metric": "macs", "value": 1.0}])
    assert plan(spec, []).trials == ()
    assert plan(spec, []).done


def test_without_limits_every_member_is_carried_out() -> None:
    fleet = Fleet(resolved(fd_mobilenet={"trials": 3}))
    assert fleet.run() == SearchResult("succeeded", "completed")
    planned = stages(fleet)
    assert planned[0] == (SINGLE, "network")
    assert planned.count((SINGLE, "network")) == 3
    assert planned.count((SHARED, "train")) == planned.count((SHARED, "sweep")) == 1
    assert planned.count((SHARED, "polish")) == 4
    assert fleet.most_active <= 2


def test_inputs_name_the_trials_of_the_whole_search() -> None:
    fleet = Fleet(resolved(fd_mobilenet={"trials": 2}))
    fleet.run()
    numbers = {stage: number for number, stage in enumerate(stages(fleet)) if stage[0] == SHARED}
    for new in fleet.trials:
        if new.params.get("stage") == "sweep":
            assert new.inputs["supernet"].trial == numbers[SHARED, "train"]
        if new.params.get("stage") == "polish":
            assert new.inputs["supernet"].trial == numbers[SHARED, "sweep"]


def test_shared_training_is_shortened_to_the_time() -> None:
    small: dict[str, Any] = {"fd_mobilenet": {"families": ["fd_mobilenet"], "widths": [0.25], "trials": 1}}
    member = MemberSearch(resolved(**small), SHARED, [])
    whole = member.spec.params(MutualNetParams).epochs
    seconds = member.macs({"stage": "train", "epochs": whole}) / PRIOR_RATE
    # Enough for the plain network and two thirds of the shared training.
    clock = Clock(resolved(**small), {SINGLE: MemberSearch(resolved(**small), SINGLE, []), SHARED: member}, [])
    plain = clock.seconds(plan(resolved(**small), []).trials[0].params)
    fleet = Fleet(resolved({"max_wall_seconds": (plain + 2 / 3 * seconds) / (1 - RESERVE)}, **small), overhead=0.01)
    fleet.run()
    trained = [new.params["epochs"] for new in fleet.trials if new.params.get("stage") == "train"]
    assert trained
    assert whole / 3 <= trained[0] < whole
    assert [new.params["stage"] for new in fleet.trials if new.params[MEMBER] == SHARED][:2] == ["train", "sweep"]
    assert fleet.truncated == []


def test_only_one_member_may_take_part() -> None:
    shared = Fleet(resolved(members=["mutualnet"]))
    shared.run()
    assert {member for member, _ in stages(shared)} == {SHARED}
    single = Fleet(resolved(members=["fd_mobilenet"], fd_mobilenet={"trials": 2}))
    single.run()
    assert stages(single) == [(SINGLE, "network")] * 2


@given(
    seconds=st.floats(60, 36_000),
    rate=st.floats(1e8, 1e12),
    workers=st.integers(1, 4),
    seed=st.integers(0, 2**16),
    unlucky=st.floats(0, 1),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_search_ends_within_its_time_with_a_front(
    seconds: float, rate: float, workers: int, seed: int, unlucky: float
) -> None:
    """Whatever the speed of the machine, the number of workers and the failures of trials."""
    random = Random(seed)
    ends: dict[int, TrialState] = {}

    def fails(number: int, params: dict[str, Any]) -> TrialState:
        del params
        return ends.setdefault(number, "failed" if random.random() < unlucky else "completed")

    limits = {"max_wall_seconds": seconds, "max_parallel_trials": max(2, workers)}
    fleet = Fleet(resolved(limits), rate=rate, workers=workers, overhead=0.01, fails=fails)
    result = fleet.run()
    assert fleet.time <= seconds + 1
    if any(record.points for record in fleet.history):
        assert result.state == "succeeded"
    # The speed is constant, so only the first training may take longer than predicted.
    later = [params for params in fleet.truncated if params != fleet.trials[0].params]
    assert later == [] or not fleet.history[0].outputs


def test_failed_plain_network_does_not_end_the_search() -> None:
    fleet = Fleet(
        resolved(fd_mobilenet={"trials": 2}), fails=lambda number, params: "completed" if number else "failed"
    )
    assert fleet.run() == SearchResult("succeeded", "trials_failed")
    assert (SHARED, "sweep") in stages(fleet)


def test_failed_shared_training_leaves_the_time_to_other_networks() -> None:
    fleet = Fleet(
        resolved(fd_mobilenet={"trials": 3}),
        fails=lambda number, params: "failed" if params.get("stage") == "train" else "completed",
    )
    fleet.run()
    assert stages(fleet).count((SINGLE, "network")) == 3
    assert stages(fleet).count((SHARED, "train")) == 1


def test_member_without_feasible_networks_takes_no_part() -> None:
    spec = resolved()
    cheapest = {
        kind: min(each.cost["macs"] for each in MemberSearch(spec, kind, []).spec.feasible())
        for kind in (SINGLE, SHARED)
    }
    assert cheapest[SHARED] < cheapest[SINGLE]
    fleet = Fleet(resolved(constraints=[{"metric": "macs", "value": cheapest[SINGLE] - 1}]))
    assert fleet.run().state == "succeeded"
    assert {member for member, _ in stages(fleet)} == {SHARED}


def test_all_networks_that_fit_are_trained_before_time_ends_the_search() -> None:
    fleet = Fleet(resolved({"max_wall_seconds": 500.0}, members=["fd_mobilenet"]), rate=4 * PRIOR_RATE, overhead=0.01)
    fleet.run()
    single = MemberSearch(fleet.spec, SINGLE, fleet.history)
    tried = [record.params["config"] for record in single.history]
    left = 0.85 * 500 - fleet.time
    untried = [each for each in single.spec.feasible() if each.config not in tried]
    epochs = single.spec.params(FdMobileNetParams).epochs
    assert len(tried) == 12 or all(each.cost["macs"] * epochs * 3068 / fleet.rate > left - 1 for each in untried)


@pytest.mark.parametrize(("most", "expected"), [(2, 0), (3, 1), (4, 1)])
def test_shared_training_needs_a_trial_for_its_sweep(most: int, expected: int) -> None:
    fleet = Fleet(resolved({"max_trials": most}))
    fleet.run()
    planned = stages(fleet)
    assert planned.count((SHARED, "train")) == planned.count((SHARED, "sweep")) == expected


def test_rivals_are_named_by_the_numbers_of_the_search() -> None:
    spec = resolved(fd_mobilenet={"trials": 3})
    fleet = Fleet(spec)
    fleet.run()
    hits = {"fraction": 0.25, "top1": 0.5, "hits": "f"}
    history = [
        record.model_copy(update={"outputs": {**(record.outputs or {}), "compared": [hits]}})
        if record.params[MEMBER] == SINGLE
        else record
        for record in fleet.history
    ]
    numbers = [record.number for record in history if record.params[MEMBER] == SINGLE]
    assert numbers != [0, 1, 2]
    again = MemberSearch(spec, SINGLE, history)
    more = spec.params(AutoParams).member(SINGLE).model_copy(update={"trials": 4})
    [new] = again.plan(again.spec.model_copy(update={"method": more})).trials
    assert {rival["trial"] for rival in new.params["rivals"]} <= set(numbers)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_trials_and_epochs_are_limited(most: int) -> None:
    fleet = Fleet(resolved({"max_trials": most}))
    assert fleet.run().state == "succeeded"
    assert len(fleet.trials) <= most
    epochs = Fleet(resolved({"max_epochs": 10 * most}))
    epochs.run()
    assert sum(record.params.get("epochs", 0) for record in epochs.history) <= 10 * most


def test_single_epoch_is_not_spent_twice() -> None:
    fleet = Fleet(resolved({"max_epochs": 1}))
    fleet.run()
    assert [new.params["epochs"] for new in fleet.trials] == [1]


def test_members_reject_what_belongs_to_the_whole_search() -> None:
    for method, field in (
        ({"fd_mobilenet": {"tuning": {"learning_rate": [0.01, 0.1]}}}, "tuning"),
        ({"mutualnet": {"goal": "boost"}}, "goal"),
        ({"mutualnet": {"start": {"weights": "a"}}}, "start"),
    ):
        with pytest.raises(ValueError, match=field):
            resolved(**method)


def test_members_get_the_start_of_the_search_and_defaults_of_earlier_versions() -> None:
    given = AutoParams.model_validate(
        {"start": {"weights": "w"}, "fd_mobilenet": {"effort": "probe"}, "mutualnet": {"epochs": 3}}
    )
    assert given.fd_mobilenet.start == given.mutualnet.start == given.start
    stored = resolved().model_dump(mode="json")
    for missing in ("polish", "lowering", "full_first"):
        del stored["method"]["mutualnet"][missing]
    member = ResolvedSpec.model_validate(stored).params(AutoParams).member(SHARED)
    assert member.model_dump().items() >= {"polish": 0, "lowering": 0.0, "full_first": 0.0}.items()


def test_effort_scales_the_length_of_the_trainings() -> None:
    epochs = {
        effort: resolved(effort=effort).params(AutoParams).member(SINGLE).epochs
        for effort in ("quick", "normal", "thorough")
    }
    assert epochs == {"quick": 13, "normal": 40, "thorough": 80}
    assert resolved(effort="quick", fd_mobilenet={"epochs": 7}).params(AutoParams).member(SINGLE).epochs == 7
