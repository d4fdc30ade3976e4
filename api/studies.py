"""A search as an Optuna study: its points are the trials of the study.

The format is Optuna's journal (`optuna.storages.JournalStorage`), one line of JSON per operation. It is written
without Optuna; Optuna and its dashboard read the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from paretofit.api.fronts import ACCURACY, Found
from paretofit.db.points import FoundPoint
from paretofit.db.tables import SearchRow, TrialRow
from paretofit.search.contracts.spec import Objective

Scalar = float | int | str


class _Operation(IntEnum):
    CREATE_STUDY = 0
    SET_STUDY_USER_ATTR = 2
    SET_STUDY_SYSTEM_ATTR = 3
    CREATE_TRIAL = 4


class _Direction(IntEnum):
    MINIMIZE = 1
    MAXIMIZE = 2


class _State(IntEnum):
    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3
    WAITING = 4


_STUDY: Final = 0
_WRITER: Final = "paretofit"
_STATES: Final = {
    "queued": _State.WAITING,
    "running": _State.RUNNING,
    "pruned": _State.PRUNED,
    "infeasible": _State.PRUNED,
    "failed": _State.FAIL,
    "cancelled": _State.FAIL,
}
"""States of trials without points; completed ones are steps, such as the training of a supernet."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """A trial of the study."""

    state: _State
    started: datetime
    ended: datetime | None
    user_attrs: Mapping[str, Any]
    values: Sequence[float] | None = None
    params: Mapping[str, Scalar] = field(default_factory=dict)
    constraints: Sequence[float] = ()


def journal(row: SearchRow, found: Found, trials: Sequence[TrialRow]) -> Iterator[str]:
    """The journal lines of a study: a trial per candidate, with its objective values (pruned if one was not measured)
    and its constraint violations; then the trials of the search without candidates."""
    objectives = [Objective.model_validate(goal) for goal in row.spec["objectives"]]
    directions = [_Direction.MAXIMIZE if goal.metric == ACCURACY else _Direction.MINIMIZE for goal in objectives]
    yield _line(_Operation.CREATE_STUDY, study_name=row.name, directions=directions)
    names = [goal.key for goal in objectives]
    yield _line(_Operation.SET_STUDY_SYSTEM_ATTR, study_id=_STUDY, system_attr={"study:metric_names": names})
    for name, value in _about(row, found).items():
        yield _line(_Operation.SET_STUDY_USER_ATTR, study_id=_STUDY, user_attr={name: value})
    distributions = _distributions([point.config for point in found.candidates])
    for trial in _trials(names, found, trials):
        yield _create(trial, distributions)


def _about(row: SearchRow, found: Found) -> dict[str, Any]:
    return {
        "search_id": row.id,
        "method": row.method,
        "state": row.state,
        "stop_reason": row.stop_reason,
        "spec": row.spec,
        "baselines": [{"point_id": p.row.id, "key": p.row.key, "metrics": p.row.metrics} for p in found.baselines],
    }


def _trials(names: Sequence[str], found: Found, trials: Sequence[TrialRow]) -> Iterator[_Trial]:
    of_id = {trial.id: trial for trial in trials}
    for point in sorted(found.candidates, key=lambda each: (of_id[each.row.trial_id].number, each.row.id)):
        yield _of_point(point, of_id[point.row.trial_id], names, found)
    fruitful = {point.row.trial_id for point in (*found.candidates, *found.baselines)}
    for trial in trials:
        if trial.id not in fruitful and trial.state in _STATES:
            yield _of_trial(trial)


def _of_point(point: FoundPoint, trial: TrialRow, names: Sequence[str], found: Found) -> _Trial:
    metrics = point.row.metrics
    values = [metrics.get(name) for name in names]
    measured = [value for value in values if value is not None]
    whole = len(measured) == len(names)
    ended = point.row.created_at
    return _Trial(
        state=_State.COMPLETE if whole else _State.PRUNED,
        started=min(trial.started_at or ended, ended),
        ended=ended,
        values=measured if whole else None,
        params=point.config,
        constraints=found.excesses(point),
        user_attrs={
            "point_id": point.row.id,
            "key": point.row.key,
            "trial_id": trial.id,
            "trial_number": trial.number,
            "input_size": point.input_size,
            "feasible": found.feasible(point),
            "sha256": None if point.artifact is None else point.artifact.sha256,
            **metrics,
        },
    )


def _of_trial(trial: TrialRow) -> _Trial:
    state = _STATES[trial.state]
    started = trial.started_at or trial.created_at
    over = state in (_State.PRUNED, _State.FAIL)
    return _Trial(
        state=state,
        started=started,
        ended=max(trial.finished_at or started, started) if over else None,
        user_attrs={
            "trial_id": trial.id,
            "trial_number": trial.number,
            "state": trial.state,
            "params": trial.params,
            "error": trial.error,
        },
    )


def _distributions(configs: Sequence[Mapping[str, Scalar]]) -> dict[str, dict[str, Any]]:
    """The distribution of each parameter, as far as the points show it: a range for numbers, a choice otherwise."""
    values: dict[str, list[Scalar]] = {}
    for config in configs:
        for name, value in config.items():
            values.setdefault(name, []).append(value)
    return {name: _distribution(seen) for name, seen in values.items()}


def _distribution(seen: Sequence[Scalar]) -> dict[str, Any]:
    numbers = [value for value in seen if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(seen):
        choices = sorted(set(seen), key=lambda value: (type(value).__name__, value))
        return {"name": "CategoricalDistribution", "attributes": {"choices": choices}}
    bounds = {"low": min(numbers), "high": max(numbers), "log": False}
    if all(isinstance(value, int) for value in numbers):
        return {"name": "IntDistribution", "attributes": {**bounds, "step": 1}}
    return {"name": "FloatDistribution", "attributes": {**bounds, "step": None}}


def _create(trial: _Trial, distributions: Mapping[str, dict[str, Any]]) -> str:
    fields: dict[str, Any] = {
        "study_id": _STUDY,
        "datetime_start": None if trial.state is _State.WAITING else trial.started.isoformat(),
        "state": trial.state,
        "values": trial.values,
        "params": {name: _internal(value, distributions[name]) for name, value in trial.params.items()},
        "distributions": {name: json.dumps(distributions[name]) for name in trial.params},
        "user_attrs": trial.user_attrs,
        "system_attrs": {"constraints": trial.constraints} if trial.constraints else {},
    }
    if trial.ended is not None:
        fields["datetime_complete"] = trial.ended.isoformat()
    return _line(_Operation.CREATE_TRIAL, **fields)


def _internal(value: Scalar, distribution: Mapping[str, Any]) -> Scalar:
    """A parameter as Optuna stores it: categories by their index."""
    choices = distribution["attributes"].get("choices")
    return value if choices is None else int(choices.index(value))


def _line(operation: _Operation, **fields: Any) -> str:
    return json.dumps({"op_code": operation, "worker_id": _WRITER, **fields}, separators=(",", ":")) + "\n"
