"""Trials of a search that measure latencies of its networks. Torch-free, pure.

A search whose constraints or objectives name devices begins with one trial per device, in sequence; each measures the
networks that met the bounds before it. The method then sees a specification with latencies and a history without these
trials. For a method that learns its networks such trials also follow each training, to measure its results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from paretofit.search.contracts.latency import Table, read_table
from paretofit.search.contracts.plan import ACTIVE, NewTrial, Plan, TrialArtifact, TrialRecord
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import Limits, ResolvedSpec, metric_key
from paretofit.search.contracts.trial import ForwardingReporter, Reporter, Trial

STAGE: Final = "latency"
LATENCY_FILE: Final = "latency.json"
KNOWN: Final = "known_latencies"
"""Input of a measuring trial: cached measurements (`paretofit.search.contracts.latency.write_known`)."""
INPUT: Final = "latency-"
"""Prefix of the names of inputs that are tables."""
OF: Final = "of"
"""Parameter of a trial that measures the results of another: that trial's number."""
NETWORKS: Final = "networks"
"""Parameter of it: the checkpoints among its inputs."""
_LEAST_SECONDS: Final = 1e-3
UNMEASURED: Final = "unmeasured"
"""Output of a trial: checkpoints of points that are not reported yet, because a latency is missing."""


def measures(params: dict[str, object]) -> bool:
    """Whether a trial with these parameters measures latencies."""
    return params.get("stage") == STAGE


def plan(
    spec: ResolvedSpec,
    history: Sequence[TrialRecord],
    method: Callable[[ResolvedSpec, Sequence[TrialRecord]], Plan],
) -> Plan:
    """The next measurement or, once all is measured, the method's plan; empty after a measurement that did not
    complete, such as `infeasible`."""
    measuring = [record for record in history if measures(record.params) and OF not in record.params]
    for record in measuring:
        if record.state in ACTIVE:
            return Plan()
        if record.state != "completed":
            return Plan(done=True)
    done = len(measuring)
    if done < len(spec.devices):
        device = spec.devices[done]
        params = {"stage": STAGE, "device": device}
        return Plan(trials=(NewTrial(params=params, inputs=_tables(done), device=device),))
    if not measuring:
        return method(spec, history)
    informed = with_tables(spec, (Table.model_validate((record.outputs or {})["table"]) for record in measuring))
    informed = informed.model_copy(update={"limits": _limits_left(spec.limits, measuring)})
    return _with_measurements(spec, history, lambda own: method(informed, own))


def informed(trial: Trial) -> Trial:
    """The trial with a specification that includes the latencies of earlier trials among its inputs."""
    found = [(name.removeprefix(INPUT), file) for name, file in trial.inputs.items() if name.startswith(INPUT)]
    # The method's own measurements are of these very networks; the order of inputs does not say which table is later.
    files = [file for _, file in sorted(found, key=lambda each: not each[0].isdecimal())]
    if not files:
        return trial
    inputs = {name: file for name, file in trial.inputs.items() if not name.startswith(INPUT)}
    return replace(trial, spec=with_tables(trial.spec, map(read_table, files)), inputs=inputs)


def with_tables(spec: ResolvedSpec, tables: Iterable[Table]) -> ResolvedSpec:
    """A specification whose candidates have these latencies among their costs; tables of one device are merged."""
    known: dict[str, Table] = {}
    for found in tables:
        before = known[found.device].latencies if found.device in known else {}
        known[found.device] = found.model_copy(update={"latencies": {**before, **found.latencies}})
    return spec.model_copy(update={"latencies": known})


class DeferringReporter(ForwardingReporter):
    """Defers points with weights that lack a latency of the search: they are reported after the measurement."""

    def __init__(self, reporter: Reporter, spec: ResolvedSpec) -> None:
        super().__init__(reporter)
        self._needed = [metric_key("latency_ms", device) for device in spec.devices]
        self._names: list[str] = []

    @property
    def outputs(self) -> dict[str, Any]:
        """Additional outputs of the trial: the checkpoints to measure, if any."""
        return {UNMEASURED: self._names} if self._names else {}

    def point(self, point: Point) -> None:
        if point.weights is None or all(name in point.metrics for name in self._needed):
            self.reporter.point(point)
        elif point.weights not in self._names:
            self._names.append(point.weights)


def _limits_left(limits: Limits, measuring: Sequence[TrialRecord]) -> Limits:
    """The limits without what the measurements before training took."""
    seconds = sum(record.seconds for record in measuring)
    changes: dict[str, Any] = {}
    if limits.max_trials is not None:
        changes["max_trials"] = max(1, limits.max_trials - len(measuring))
    for name in ("max_wall_seconds", "max_device_seconds"):
        if (most := getattr(limits, name)) is not None:
            changes[name] = max(_LEAST_SECONDS, most - seconds)
    return limits.model_copy(update=changes)


def _with_measurements(
    spec: ResolvedSpec, history: Sequence[TrialRecord], method: Callable[[Sequence[TrialRecord]], Plan]
) -> Plan:
    """The method's plan from its own trials, each of which counts as active until its results are measured; before that
    the due measurements. Trials for measurements are reserved from `max_trials`."""
    own = [record for record in history if not measures(record.params)]
    measured = {record.number: [each for each in history if each.params.get(OF) == record.number] for record in own}
    due = [new for record in own for new in _due(spec, record, measured[record.number])]
    seen = [
        _seen(record, measured[record.number], spec).model_copy(update={"number": number})
        for number, record in enumerate(own)
    ]
    planned = method(seen)
    trials, cut = planned.trials, False
    if spec.method.learns and (most := spec.limits.max_trials) is not None:
        owed = sum(_owed(record, measured[record.number], spec) for record in own)
        room = max(0, (most - len(history) - owed) // (1 + len(spec.devices)))
        trials, cut = trials[:room], len(trials) > room
    before = len(history) - len(own) - sum(map(len, measured.values()))
    numbers = [record.number for record in own]
    follow = spec.method.learns and bool(trials or any(record.state in ACTIVE for record in seen))
    return planned.model_copy(
        update={
            "trials": (*due, *(_after(new, numbers, before) for new in trials)),
            "done": (planned.done or cut) and not follow,
            "stop_reason": "max_trials" if cut else planned.stop_reason,
        }
    )


def _due(spec: ResolvedSpec, record: TrialRecord, measured: Sequence[TrialRecord]) -> list[NewTrial]:
    """The measurement on the next device, if any, with the table of the previous one as input."""
    if not _owed(record, measured, spec) or any(each.state != "completed" for each in (record, *measured)):
        return []
    device = spec.devices[len(measured)]
    names = (record.outputs or {})[UNMEASURED]
    source = (record, *measured)[-1].number
    return [
        NewTrial(
            params={"stage": STAGE, "device": device, OF: record.number, NETWORKS: names},
            inputs={name: TrialArtifact(trial=source, artifact=name) for name in names},
            device=device,
        )
    ]


def _owed(record: TrialRecord, measured: Sequence[TrialRecord], spec: ResolvedSpec) -> int:
    """Measurements that follow a trial and are not planned yet; one for each device until it is measured."""
    under_way = record.state in ACTIVE
    if not under_way and not (record.state == "completed" and (record.outputs or {}).get(UNMEASURED)):
        return 0
    ended = any(each.state not in ("queued", "running", "completed") for each in measured)
    return 0 if ended else len(spec.devices) - len(measured)


def _seen(record: TrialRecord, measured: Sequence[TrialRecord], spec: ResolvedSpec) -> TrialRecord:
    """A method's trial with the points of its measurement trials."""
    if record.state != "completed" or not (record.outputs or {}).get(UNMEASURED):
        return record
    for each in measured:
        if each.state not in ("queued", "running", "completed"):
            return record.model_copy(update={"state": each.state})
    if len(measured) < len(spec.devices) or measured[-1].state != "completed":
        return record.model_copy(update={"state": "running"})
    return record.model_copy(update={"points": (*record.points, *measured[-1].points)})


def _tables(count: int) -> dict[str, TrialArtifact]:
    return {f"{INPUT}{number}": TrialArtifact(trial=number, artifact=LATENCY_FILE) for number in range(count)}


def _after(new: NewTrial, numbers: Sequence[int], before: int) -> NewTrial:
    """A method's trial among all of a search: `numbers` are those of its earlier ones; `before` trials measured
    first."""
    inputs = {
        name: source if source.trial is None else source.model_copy(update={"trial": numbers[source.trial]})
        for name, source in new.inputs.items()
    }
    return new.model_copy(update={"inputs": inputs | _tables(before)})
