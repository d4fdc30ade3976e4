"""A plan for planning tests, controlled by the labels of the search. Tests register it under an existing kind by
`setitem`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from paretofit.search.contracts.plan import NewTrial, Plan, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Queue trials until `trials` (default 1) are planned, with `at_once` (default all) active at a time.

    Label `fail`: raise. Label `retry`: plan one more trial for every failed one. Label `calls`: a file to which each
    call appends a byte. Label `seconds`: duration of the call.
    """
    if "calls" in spec.labels:
        with Path(spec.labels["calls"]).open("ab") as file:
            file.write(b".")
    time.sleep(float(spec.labels.get("seconds", 0)))
    if "fail" in spec.labels:
        raise ZeroDivisionError("this plan always fails")
    failed = sum(record.state == "failed" for record in history) if "retry" in spec.labels else 0
    left = int(spec.labels.get("trials", 1)) + failed - len(history)
    active = sum(record.state in {"queued", "running"} for record in history)
    room = int(spec.labels.get("at_once", left)) - active
    indices = range(len(history), len(history) + max(0, min(left, room)))
    return Plan(trials=tuple(NewTrial(params={"index": index}) for index in indices), done=left <= len(indices))
