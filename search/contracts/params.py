"""The parameters of a method, and the networks that it may find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from paretofit.models.architecture import Architecture
from paretofit.search.contracts.base import Contract
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.point import ALL_FORMATS, Format
from paretofit.search.contracts.start import Start, StartRecord

Config = Mapping[str, float | int | str]
"""What a method varies, of one network: such as its width and its resolution."""

T = TypeVar("T")

UNSET: Any = None
"""Default of a parameter that is left to the service."""


def is_unset(value: object) -> bool:
    """Whether the choice is left to the service. By this function, because the type of an `Auto` field is the resolved
    one."""
    return value is None


class _Nullable:
    """Lets `None` pass: it stands for the choice that `MethodParams.resolved` makes."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.nullable_schema(handler(source))


Auto = Annotated[T, _Nullable()]
"""`Auto[int]`: an int in every resolved specification, `None` in a submitted one that leaves the choice to the service.

Planning, training and the cost model see resolved specifications only, so that the type is the resolved one."""


class Candidate(Contract):
    """A network that a method may find: its cost is arithmetic, known before any training."""

    key: str
    config: dict[str, float | int | str]
    input_size: tuple[int, int]
    cost: Mapping[str, int | float] = Field(
        description="macs, pool_inputs, params, peak_activation_bytes; `latency_ms:DEVICE` and `latency_p95_ms:DEVICE` "
        "once they are measured."
    )


class MethodParams(Contract):
    """The parameters of one kind of method; subclasses fix `kind` to a literal and document every field."""

    summary: ClassVar[str]
    paper: ClassVar[str]
    tiny: ClassVar[dict[str, Any]]
    """Parameters of a preset that runs in <= 20 s on 2 cores: the contract tests' and the tutorials'."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Named parameters to start from, beside `tiny`."""
    learns: ClassVar[bool] = False
    """Whether its networks come about in training: points that lack a latency are measured once their trial has
    ended."""
    exports: ClassVar[tuple[Format, ...]] = ALL_FORMATS
    """Formats that its points can be exported in."""

    starts: ClassVar[bool] = False
    """Whether its trainings can start from trained weights (`start`)."""
    without_start: ClassVar[frozenset[str]] = frozenset()
    """Stages of its trials (the item `stage` of their parameters) that do not read them."""
    unrecorded: ClassVar[dict[str, Any]] = {}
    """Values of parameters that specifications accepted by an earlier version lack: what that version did."""

    kind: str
    start: Start | None = Field(
        default=None,
        description="Trained weights to start from, such as {weights: mobilenet_v2}. Unset: networks are trained from "
        "scratch.",
    )

    @classmethod
    def recorded(cls, values: Any) -> Any:
        """The parameters of a stored specification, as data, with those that an earlier version lacked."""
        if not isinstance(values, dict):
            return values
        return cls.unrecorded | {name: value for name, value in values.items() if value is not None}

    @property
    def least_trials(self) -> int:
        """Trials without which a search finds nothing: a lower `max_trials` is refused."""
        return 1

    @property
    def least_epochs(self) -> int:
        """Epochs without which it finds nothing: a lower `max_epochs` is refused."""
        return 1

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """These parameters with a value for each that the user left to the service. Raises ValueError for parameters
        that fit neither the dataset nor the start."""
        del dataset, start
        return self

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """Every network this method may find on a dataset. Raises ValueError for parameters that fit no network."""
        raise NotImplementedError(f"{type(self).__name__} has to say which networks it may find")

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        """The network of a configuration, with its cost. Unless a method says otherwise, one of `candidates`. Raises
        ValueError for a configuration that is not one of the method's."""
        for candidate in self.candidates(dataset):
            if candidate.config == dict(config):
                return candidate
        raise ValueError(f"method {self.kind} has no network with the configuration {dict(config)}")

    def measured(self, dataset: DatasetProfile, seed: int) -> list[Candidate]:
        """The networks that a search with latencies measures before it trains: all, unless those that `candidates`
        lists are only some. It finds no others, unless it `learns` them: then these tell what others may take, the
        least of all among them. Raises ValueError as that."""
        del seed
        return self.candidates(dataset)

    def network(self, dataset: DatasetProfile, config: Config) -> Architecture:
        """The network of a candidate's configuration. Raises ValueError for a method whose networks are not known
        before it trains."""
        del dataset, config
        raise ValueError(f"method {self.kind} learns its networks: none can be measured before")

    def planned_epochs(self, dataset: DatasetProfile) -> float:
        """Of training, all trials together, without limits: what the time of a search is in proportion to. 1 unless it
        says more."""
        del dataset
        return 1

    def check_devices(self, devices: Sequence[str]) -> None:
        """Raises ValueError if it cannot search with latencies on these devices, those of constraints and
        objectives."""
