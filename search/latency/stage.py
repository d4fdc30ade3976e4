"""The trials before a method's own that measure how fast its candidates are. Torch-free, pure.

A search whose constraints or objectives name a device begins with a trial for each of them, one after another; each
measures what met the bounds before it. The method then sees a specification that knows, and a history without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from search.latency import table
from search.latency.table import Table
from search.methods.method import NewTrial, Plan, TrialArtifact, TrialRecord

if TYPE_CHECKING:
    from search.reporter import Trial
    from search.spec import ResolvedSpec

STAGE: Final = "latency"
FILE: Final = "latency.json"
KNOWN: Final = "known_latencies"
"""Input of a measuring trial: what the cache has (`search.latency.table.write_known`)."""
INPUT: Final = "latency-"
"""What the names of inputs begin with that are tables."""


def measures(params: dict[str, object]) -> bool:
    """Whether a trial with these parameters measures."""
    return params.get("stage") == STAGE


def plan(
    spec: ResolvedSpec,
    history: Sequence[TrialRecord],
    method: Callable[[ResolvedSpec, Sequence[TrialRecord]], Plan],
) -> Plan:
    """The next measurement, or once all is measured what the method plans; nothing after a measurement that ended in
    another way, such as `infeasible`."""
    measuring = [record for record in history if measures(record.params)]
    for record in measuring:
        if record.state in ("queued", "running"):
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
    if (most := spec.limits.max_trials) is not None:
        left = spec.limits.model_copy(update={"max_trials": max(1, most - done)})
        informed = informed.model_copy(update={"limits": left})
    own = [record.model_copy(update={"number": record.number - done}) for record in history[done:]]
    planned = method(informed, own)
    return planned.model_copy(update={"trials": tuple(_after(new, done) for new in planned.trials)})


def informed(trial: Trial) -> Trial:
    """The trial with a specification that knows what the trials before it measured, as far as that came with it."""
    files = [file for name, file in trial.inputs.items() if name.startswith(INPUT)]
    if not files:
        return trial
    inputs = {name: file for name, file in trial.inputs.items() if not name.startswith(INPUT)}
    return replace(trial, spec=with_tables(trial.spec, map(table.read, files)), inputs=inputs)


def with_tables(spec: ResolvedSpec, tables: Iterable[Table]) -> ResolvedSpec:
    """A specification whose candidates have these latencies among their costs; tables of one device are one."""
    known: dict[str, Table] = {}
    for found in tables:
        before = known[found.device].latencies if found.device in known else {}
        known[found.device] = found.model_copy(update={"latencies": {**before, **found.latencies}})
    return spec.model_copy(update={"latencies": known})


def _tables(count: int) -> dict[str, TrialArtifact]:
    return {f"{INPUT}{number}": TrialArtifact(trial=number, artifact=FILE) for number in range(count)}


def _after(new: NewTrial, done: int) -> NewTrial:
    """A method's trial among all of a search: those that measure come before its first."""
    inputs = {name: source.model_copy(update={"trial": source.trial + done}) for name, source in new.inputs.items()}
    return new.model_copy(update={"inputs": inputs | _tables(done)})
