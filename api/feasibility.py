"""Feasibility of a specification: its candidates and their costs, and the nearest network if none meets a
constraint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from paretofit.api import init_from
from paretofit.api.pointers import pointer
from paretofit.api.problems import InfeasibleError, InvalidError
from paretofit.api.schemas.problems import FieldProblem
from paretofit.db.searches import Past
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.spec import Constraint, ResolvedSpec, SearchSpec


@dataclass(frozen=True, slots=True)
class Survey:
    """The candidates of a specification, and those that meet its constraints (at least one)."""

    candidates: list[Candidate]
    feasible: list[Candidate]

    @property
    def macs(self) -> tuple[int, int]:
        """The lowest and highest MACs of all candidates."""
        every = [int(candidate.cost["macs"]) for candidate in self.candidates]
        return min(every), max(every)

    def as_json(self) -> dict[str, Any]:
        """What is recorded with the search."""
        return {"configurations": len(self.candidates), "feasible": len(self.feasible), "macs": list(self.macs)}


def check_limits(spec: ResolvedSpec) -> None:
    """Raises InvalidError for limits that are too low to find anything."""
    if (low := spec.low_limit()) is not None:
        field, detail = low
        raise InvalidError(detail, errors=[FieldProblem(pointer=pointer(["limits", field]), detail=detail)])


def survey(spec: ResolvedSpec) -> Survey:
    """Raises InvalidError for parameters that fit no network and limits that leave no room for one, InfeasibleError for
    constraints that none meets."""
    check_limits(spec)
    try:
        spec.method.check_devices(spec.devices)
        candidates = spec.candidates()
        if candidates and spec.devices:
            spec.method.network(spec.dataset, candidates[0].config)
    except ValueError as error:
        raise refused_parameters(spec, str(error)) from error
    if not candidates:
        raise refused_parameters(spec, "the search space is empty: widen these parameters")
    feasible = spec.feasible()
    if not feasible:
        raise _infeasible(spec.constraints, candidates)
    return Survey(candidates, feasible)


def expected_seconds(spec: ResolvedSpec, macs: int, past: Sequence[Past]) -> float | None:
    """Expected device time, in proportion to earlier searches with the method; None without any.

    Work is epochs (of every trial that trains) x training images x MACs of the largest candidate: what a method trains
    for most of its time. Searches whose specification this release does not support are skipped.
    """
    done = seconds = 0.0
    for search in past:
        with suppress(ValueError):
            done += _work(ResolvedSpec.model_validate(search.spec), search.created["candidates"]["macs"][1])
            seconds += search.device_seconds
    return seconds / done * _work(spec, macs) if done and seconds else None


def _work(spec: ResolvedSpec, macs: int) -> float:
    epochs: float = spec.method.planned_epochs(spec.dataset)
    if (most := spec.limits.max_epochs) is not None:
        epochs = min(epochs, most)
    return epochs * spec.dataset.images["train"] * macs


def refused_parameters(spec: SearchSpec, detail: str) -> InvalidError:
    """The problem of invalid method parameters: a message of a method begins with the field, if one is the cause."""
    field, separator, _ = detail.partition(":")
    known = separator and field in type(spec.method).model_fields
    path = ["method", field] if known else ["method"]
    place = pointer(init_from.place(spec.method) if path[-1] == "start" else path)
    return InvalidError(f"{place}: {detail}", errors=[FieldProblem(pointer=place, detail=detail)])


def _infeasible(constraints: Sequence[Constraint], candidates: Sequence[Candidate]) -> InfeasibleError:
    blamed = _blamed(constraints, candidates, joint=True) or _blamed(constraints, candidates, joint=False)
    errors, hints = [], []
    for index, candidate in blamed:
        bound = constraints[index]
        least = candidate.cost[bound.metric]
        place = pointer(["constraints", index])
        detail = (
            f"{bound.metric} <= {bound.value:g} is not met by any network; the nearest has {least} ({candidate.key})"
        )
        errors.append(FieldProblem(pointer=place, detail=detail))
        hints.append({"pointer": place, "metric": bound.metric, "value": least, "config": candidate.config})
    message = "; ".join(error.detail for error in errors)
    return InfeasibleError(f"{message}: relax the bound, or widen the method's range", errors=errors, nearest=hints)


def _blamed(
    constraints: Sequence[Constraint], candidates: Sequence[Candidate], *, joint: bool
) -> list[tuple[int, Candidate]]:
    """The constraints that no candidate meets, each with the nearest candidate; `joint`: among those that meet all
    others."""
    blamed = []
    # Latencies are unknown before the search.
    counted = {index: bound for index, bound in enumerate(constraints) if bound.device is None}
    for index, bound in counted.items():
        others = [other for place, other in counted.items() if place != index] if joint else []
        left = [candidate for candidate in candidates if all(other.holds(candidate.cost) for other in others)]
        least = min(left, key=lambda candidate: candidate.cost[bound.metric], default=None)
        if least is not None and not bound.holds(least.cost):
            blamed.append((index, least))
    return blamed
