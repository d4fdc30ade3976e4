"""Parameters of the automatic search, which divides its time among other methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from paretofit.models.architecture import Architecture
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import UNSET, Auto, Candidate, Config, MethodParams, is_unset
from paretofit.search.contracts.start import StartRecord
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.methods.mutualnet.params import MutualNetParams, SlimmableParams
from paretofit.search.training.params import TrainingParams

Member = Literal["fd_mobilenet", "mutualnet"]

MEMBER: Final = "member"
"""Parameter of a trial, and item of a configuration: the method that it belongs to."""
EFFORTS: Final = {"quick": 1 / 3, "normal": 1.0, "thorough": 2.0}
"""Length of each training, relative to the default recipe's."""
SINGLES: Final = 12
"""Networks that are trained on their own, unless time ends the search before."""


class AutoParams(MethodParams):
    """Divides the time of the search among other methods: first the largest network that meets the constraints, trained
    by the default recipe; then a network with shared weights for all smaller costs, if its training fits into the time;
    then more networks of their own."""

    summary: ClassVar[str] = "The best front for a dataset within a time limit, from several methods."
    paper: ClassVar[str] = "A composition of the other methods."
    tiny: ClassVar[dict[str, Any]] = {
        "fd_mobilenet": {**FdMobileNetParams.tiny, "trials": 2},
        "mutualnet": MutualNetParams.tiny,
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"effort": "quick"},
        "thorough": {"effort": "thorough"},
    }
    starts: ClassVar[bool] = True
    without_start: ClassVar[frozenset[str]] = SlimmableParams.without_start

    kind: Literal["auto"] = "auto"
    members: Auto[tuple[Member, ...]] = Field(
        default=UNSET,
        min_length=1,
        description="Methods that take part. Unset: all that support the family of the start.",
    )
    resolutions: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Input resolutions of all members, in pixels. Unset: the image size, and 6/7, 5/7 and 4/7 of it.",
    )
    effort: Literal["quick", "normal", "thorough"] = Field(
        default="normal",
        description="Length of each training: a third of the default recipe's, the default, or twice as long.",
    )
    fd_mobilenet: Auto[FdMobileNetParams] = Field(
        default=UNSET, description="Parameters of the networks that are trained on their own. Unset: chosen."
    )
    mutualnet: Auto[MutualNetParams] = Field(
        default=UNSET, description="Parameters of the network with shared weights. Unset: chosen."
    )

    @classmethod
    def recorded(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        members = {kind: _PARAMS[kind].recorded(values[kind]) for kind in _PARAMS if values.get(kind) is not None}
        return super().recorded(values | members)

    @model_validator(mode="before")
    @classmethod
    def _one_start(cls, given: Any) -> Any:
        """The start of the search is that of its members."""
        if not isinstance(given, dict) or given.get("start") is None:
            return given
        members = {kind: given[kind] for kind in _PARAMS if isinstance(given.get(kind), dict)}
        return given | {
            kind: own if own.get("start") is not None else own | {"start": given["start"]}
            for kind, own in members.items()
        }

    @field_validator("members")
    @classmethod
    def _distinct(cls, value: tuple[Member, ...] | None) -> tuple[Member, ...] | None:
        return None if value is None else tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _suitable(self) -> Self:
        for kind in _MEMBERS:
            own: TrainingParams | None = getattr(self, kind)
            if own is None:
                continue
            if own.start is not None and own.start != self.start:
                raise ValueError(f"{kind}.start: leave it out, and give start once for all members")
            if isinstance(own, FdMobileNetParams) and own.tuning.ranges:
                raise ValueError("fd_mobilenet.tuning: not available in auto: use method fd_mobilenet, or leave it out")
            if isinstance(own, MutualNetParams) and own.goal == "boost":
                raise ValueError("mutualnet.goal: boost is not available in auto: use method mutualnet, or front")
        return self

    @property
    def least_trials(self) -> int:
        return 1 if self.members is None or "fd_mobilenet" in self.members else 2

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """The parameters of every member that takes part, with a value for every unset one."""
        members: dict[Member, TrainingParams | None] = dict.fromkeys(_MEMBERS)
        every = is_unset(self.members)
        for kind in _MEMBERS if every else self.members:
            try:
                given = _MEMBERS[kind]() if is_unset(getattr(self, kind)) else getattr(self, kind)
                members[kind] = self._resolved_member(given, dataset, start)
            except ValueError:
                # Some families cannot share weights.
                if not every or not is_unset(getattr(self, kind)) or kind == "fd_mobilenet":
                    raise
        taking_part = tuple(kind for kind, own in members.items() if own is not None)
        changes: dict[str, Any] = {"members": taking_part}
        return self.model_copy(update=changes | dict(members))

    def _resolved_member(
        self, given: TrainingParams, dataset: DatasetProfile, start: StartRecord | None
    ) -> TrainingParams:
        changes: dict[str, Any] = {"start": self.start}
        if is_unset(given.resolutions):
            changes["resolutions"] = self.resolutions
        if isinstance(given, FdMobileNetParams) and "trials" not in given.model_fields_set:
            changes["trials"] = SINGLES
        if is_unset(given.epochs) and self.effort != "normal":
            usual = _changed(given, changes).resolved(dataset, start).epochs
            changes["epochs"] = max(1, round(EFFORTS[self.effort] * usual))
        resolved: TrainingParams = _changed(given, changes).resolved(dataset, start)
        return resolved

    def member(self, kind: str) -> TrainingParams:
        """The parameters of a member of a resolved specification. Raises ValueError for a method that takes no part."""
        own: TrainingParams | None = getattr(self, kind) if kind in (self.members or ()) else None
        if own is None:
            raise ValueError(f"{MEMBER}: {kind!r} takes no part: use one of {', '.join(self.members or ())}")
        return own

    def planned_epochs(self, dataset: DatasetProfile) -> float:
        return sum(self.member(kind).planned_epochs(dataset) for kind in self.members)

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """The networks of all members, each with its `member` in the configuration."""
        return [_labeled(kind, each) for kind in self.members for each in self.member(kind).candidates(dataset)]

    def measured(self, dataset: DatasetProfile, seed: int) -> list[Candidate]:
        return [_labeled(kind, each) for kind in self.members for each in self.member(kind).measured(dataset, seed)]

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        kind, own = _member_of(config)
        return _labeled(kind, self.member(kind).candidate(dataset, own))

    def network(self, dataset: DatasetProfile, config: Config) -> Architecture:
        kind, own = _member_of(config)
        return self.member(kind).network(dataset, own)


_PARAMS: Final[Mapping[Member, type[FdMobileNetParams | MutualNetParams]]] = {
    "fd_mobilenet": FdMobileNetParams,
    "mutualnet": MutualNetParams,
}
_MEMBERS: Final[Mapping[Member, Callable[[], TrainingParams]]] = _PARAMS


def _changed(given: TrainingParams, changes: Mapping[str, Any]) -> TrainingParams:
    """Validated parameters with these changes, in which what was not given still is not."""
    explicit = {name: getattr(given, name) for name in given.model_fields_set}
    return type(given).model_validate(explicit | dict(changes))


def _labeled(kind: str, candidate: Candidate) -> Candidate:
    return candidate.model_copy(update={"config": {MEMBER: kind, **candidate.config}})


def _member_of(config: Config) -> tuple[str, dict[str, float | int | str]]:
    own = dict(config)
    return str(own.pop(MEMBER, "")), own


PARAMS = (AutoParams,)
