"""From what people type to what it names: whole ids, their beginnings or ends, names, `latest`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from paretofit.api.schemas.points import FrontPoint
from paretofit.client.client import Client
from paretofit.client.errors import NoSuchError, UsageError

_WHOLE = re.compile(r"[a-z]+_[0-9a-f]{32}")
ENDS = ("best", "smallest")
"""Names of a front's ends."""
_RECENT = 2000
"""How many of the newest resources a shortened id is looked for among."""


class _Named(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_Named)
AnyPoint = TypeVar("AnyPoint", bound=FrontPoint)


def search_id(client: Client, reference: str) -> str:
    """The id of a search. Raises NoSuchError and UsageError (several fit)."""
    return reference if _WHOLE.fullmatch(reference) else _one("search", client.searches.list(), reference).id


def dataset_id(client: Client, reference: str) -> str:
    """The id of a dataset. A name that several share means the newest. Raises NoSuchError."""
    if _WHOLE.fullmatch(reference):
        return reference
    recent = list(islice(client.datasets.list(), _RECENT))
    named = [dataset for dataset in recent if dataset.name == reference]
    return named[0].id if named else _one("dataset", recent, reference).id


def weights_id(client: Client, reference: str) -> str:
    """The id of weights. A name that several share means the newest. Raises NoSuchError."""
    if _WHOLE.fullmatch(reference):
        return reference
    recent = list(islice(client.weights.list(), _RECENT))
    named = [weights for weights in recent if weights.name == reference]
    return named[0].id if named else _one("weights", recent, reference).id


def trial_id(client: Client, reference: str) -> str:
    """The id of a trial, which may be given as `SEARCH:NUMBER`. Raises NoSuchError and UsageError."""
    search, colon, number = reference.rpartition(":")
    if not colon:
        if _WHOLE.fullmatch(reference):
            return reference
        raise UsageError(f"{reference!r} is no trial: give its whole id, or SEARCH:NUMBER such as latest:0")
    for trial in client.searches.trials(search_id(client, search)):
        if str(trial.number) == number:
            return trial.id
    raise NoSuchError(f"search {search} has no trial {number}; `paretofit show {search}` lists them")


def point_id(client: Client, reference: str) -> str:
    """The id of a point, which may be given as `SEARCH:POINT`: a point of its front, another one of its key or id.

    Raises NoSuchError and UsageError.
    """
    search, colon, name = reference.partition(":")
    if not colon:
        if _WHOLE.fullmatch(reference):
            return reference
        raise UsageError(f"{reference!r} is no point: give its whole id, or SEARCH:POINT such as latest:best")
    front = client.searches.front(search_id(client, search), dominated=True)
    if name in ENDS:
        return point(front.points, name).id
    return point([*front.points, *front.baselines, *(front.dominated or ())], name).id


def point(points: Sequence[AnyPoint], reference: str) -> AnyPoint:
    """The point of a front that has this id (or its end) or key; `best` and `smallest` are its ends.

    Raises NoSuchError and UsageError (several fit).
    """
    if not points:
        raise NoSuchError("the front has no points yet")
    if reference == "best":
        return max(points, key=lambda candidate: candidate.metrics["selection_top1"] or 0.0)
    if reference == "smallest":
        return min(points, key=lambda candidate: candidate.metrics["macs"] or 0.0)
    fitting = [p for p in points if reference == p.key or p.id.startswith(reference) or p.id.endswith(reference)]
    return _only("point", fitting, reference, "`paretofit front` lists them; `best` and `smallest` are its ends")


def _one(kind: str, candidates: Iterable[Named], reference: str) -> Named:
    recent = islice(candidates, _RECENT)
    if reference == "latest":
        for newest in recent:
            return newest
        raise NoSuchError(f"there is no {kind} yet")
    fitting = [c for c in recent if reference == c.name or c.id.startswith(reference) or c.id.endswith(reference)]
    command = {"search": "list", "dataset": "datasets list", "weights": "weights list"}[kind]
    return _only(kind, fitting, reference, f"`paretofit {command}` shows what there is")


Item = TypeVar("Item", bound="_Identified")


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


def _only(kind: str, fitting: Sequence[Item], reference: str, hint: str) -> Item:
    if not fitting:
        raise NoSuchError(f"no {kind} {reference!r}: {hint}")
    if len(fitting) > 1:
        listed = ", ".join(item.id for item in fitting[:5])
        raise UsageError(f"{reference!r} fits {len(fitting)} {kind} ids ({listed} ...): give one of them")
    return fitting[0]
