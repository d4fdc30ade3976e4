"""Resolves references to ids: full ids, their beginnings or ends, names and `latest`."""

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
_LIST = {"search": "list", "dataset": "datasets list", "weights": "weights list"}
_CREATE = {"search": "submit", "dataset": "datasets add", "weights": "weights add"}
_RECENT = 2000
"""Number of newest resources among which a shortened id is resolved."""


class _Named(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_Named)
AnyPoint = TypeVar("AnyPoint", bound=FrontPoint)


def search_id(client: Client, reference: str) -> str:
    """The id of a search. Raises NoSuchError, and UsageError if the reference is ambiguous."""
    return reference if _WHOLE.fullmatch(reference) else _one("search", client.searches.list(), reference).id


def dataset_id(client: Client, reference: str) -> str:
    """The id of a dataset; of several with the same name, the newest. Raises NoSuchError."""
    if _WHOLE.fullmatch(reference):
        return reference
    recent = list(islice(client.datasets.list(), _RECENT))
    named = [dataset for dataset in recent if dataset.name == reference]
    return named[0].id if named else _one("dataset", recent, reference).id


def weights_id(client: Client, reference: str) -> str:
    """The id of weights; of several with the same name, the newest. Raises NoSuchError."""
    if _WHOLE.fullmatch(reference):
        return reference
    recent = list(islice(client.weights.list(), _RECENT))
    named = [weights for weights in recent if weights.name == reference]
    return named[0].id if named else _one("weights", recent, reference).id


def trial_id(client: Client, reference: str) -> str:
    """The id of a trial, given by id or as `SEARCH:NUMBER`. Raises NoSuchError and UsageError."""
    search, colon, number = reference.rpartition(":")
    if not colon:
        if _WHOLE.fullmatch(reference):
            return reference
        raise UsageError(f"{reference!r} is not a trial; give the full id, or SEARCH:NUMBER such as latest:0")
    for trial in client.searches.trials(search_id(client, search)):
        if str(trial.number) == number:
            return trial.id
    raise NoSuchError(f"search {search} has no trial {number}; `paretofit show {search}` lists its trials")


def point_id(client: Client, reference: str) -> str:
    """The id of a point, given by id or as `SEARCH:POINT`, with a key, an id, `best` or `smallest` as POINT.

    Raises NoSuchError and UsageError.
    """
    search, colon, name = reference.partition(":")
    if not colon:
        if _WHOLE.fullmatch(reference):
            return reference
        raise UsageError(f"{reference!r} is not a point; give the full id, or SEARCH:POINT such as latest:best")
    front = client.searches.front(search_id(client, search), dominated=True)
    if name in ENDS:
        return point(front.points, name).id
    return point([*front.points, *front.baselines, *(front.dominated or ())], name).id


def point(points: Sequence[AnyPoint], reference: str) -> AnyPoint:
    """The point with this id (or end of an id) or key; `best` and `smallest` are the ends of the front.

    Raises NoSuchError, and UsageError if the reference is ambiguous.
    """
    if not points:
        raise NoSuchError("the front has no points; `paretofit show` reports the state of the search")
    if reference == "best":
        return max(points, key=lambda candidate: candidate.metrics["selection_top1"] or 0.0)
    if reference == "smallest":
        return min(points, key=lambda candidate: candidate.metrics["macs"] or 0.0)
    fitting = [p for p in points if reference == p.key or p.id.startswith(reference) or p.id.endswith(reference)]
    return _only(
        "point",
        fitting,
        reference,
        "`paretofit front` lists the points; `best` and `smallest` are the ends of the front",
    )


def _one(kind: str, candidates: Iterable[Named], reference: str) -> Named:
    recent = islice(candidates, _RECENT)
    if reference == "latest":
        for newest in recent:
            return newest
        raise NoSuchError(f"no {kind} exists yet; `paretofit {_CREATE[kind]}` creates one")
    fitting = [c for c in recent if reference == c.name or c.id.startswith(reference) or c.id.endswith(reference)]
    return _only(kind, fitting, reference, f"`paretofit {_LIST[kind]}` lists the available ones")


Item = TypeVar("Item", bound="_Identified")


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


def _only(kind: str, fitting: Sequence[Item], reference: str, hint: str) -> Item:
    if not fitting:
        raise NoSuchError(f"no {kind} matches {reference!r}; {hint}")
    if len(fitting) > 1:
        listed, more = ", ".join(item.id for item in fitting[:5]), ", ..." if len(fitting) > 5 else ""
        raise UsageError(f"{reference!r} matches {len(fitting)} {kind} ids ({listed}{more}); give one of them")
    return fitting[0]
