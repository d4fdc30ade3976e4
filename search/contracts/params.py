"""Parameters of a method, and the networks in its search space."""

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
"""Configuration of one network: the values that a method varies, such as width and resolution."""

T = TypeVar("T")

UNSET: Any = None
"""Default of a parameter that the service chooses."""


def is_unset(value: object) -> bool:
    """Whether the service chooses the value. A function, because the static type of an `Auto` field is the resolved
    one."""
    return value is None


class _Nullable:
    """Accepts `None`: `MethodParams.resolved` replaces it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.nullable_schema(handler(source))


Auto = Annotated[T, _Nullable()]
"""`Auto[int]`: an int in every resolved specification; `None` in a submitted one that leaves the choice to the service.

The static type is the resolved one, because planning, training and the cost model see resolved specifications only."""


class Candidate(Contract):
    """A network that a method can find, with its costs, which are computed without training."""

    key: str
    config: dict[str, float | int | str]
    input_size: tuple[int, int]
    cost: Mapping[str, int | float] = Field(
        description="macs, pool_inputs, params, peak_activation_bytes; `latency_ms:DEVICE` and "
        "`latency_p95_ms:DEVICE` (milliseconds) once measured."
    )


class MethodParams(Contract):
    """Parameters of one kind of method. Subclasses set `kind` to a literal and describe every field."""

    summary: ClassVar[str]
    paper: ClassVar[str]
    tiny: ClassVar[dict[str, Any]]
    """Preset that runs in <= 20 s on 2 cores, for contract tests and tutorials."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Named presets besides `tiny`."""
    learns: ClassVar[bool] = False
    """Whether its networks are known only after training: missing latencies are then measured after each trial."""
    exports: ClassVar[tuple[Format, ...]] = ALL_FORMATS
    """Formats that its points can be exported in."""

    starts: ClassVar[bool] = False
    """Whether its trainings can start from trained weights (`start`)."""
    without_start: ClassVar[frozenset[str]] = frozenset()
    """Stages of its trials (the item `stage` of their parameters) that do not need the start's weights."""
    unrecorded: ClassVar[dict[str, Any]] = {}
    """Values of parameters that specifications of an earlier version lack: the behavior of that version."""

    kind: str
    start: Start | None = Field(
        default=None,
        description="Trained weights to start from, such as {weights: mobilenet_v2}. Unset: train from scratch.",
    )

    @classmethod
    def recorded(cls, values: Any) -> Any:
        """Parameters of a stored specification as data, completed with those that an earlier version lacked."""
        if not isinstance(values, dict):
            return values
        return cls.unrecorded | {name: value for name, value in values.items() if value is not None}

    @property
    def least_trials(self) -> int:
        """Fewest trials that can find a network: a lower `max_trials` is rejected."""
        return 1

    @property
    def least_epochs(self) -> int:
        """Fewest epochs that can find a network: a lower `max_epochs` is rejected."""
        return 1

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """These parameters with a value for every unset field. Raises ValueError for parameters that do not fit the
        dataset or the start."""
        del dataset, start
        return self

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """Every network that this method can find on a dataset. Raises ValueError for parameters that no network
        fits."""
        raise NotImplementedError(
            f"{type(self).__name__} does not implement candidates: list the networks that it can find"
        )

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        """Network of a configuration, with its costs; by default one of `candidates`. Raises ValueError for a
        configuration outside the search space."""
        for candidate in self.candidates(dataset):
            if candidate.config == dict(config):
                return candidate
        raise ValueError(
            f"method {self.kind} has no network with the configuration {dict(config)}; use one of its candidates"
        )

    def measured(self, dataset: DatasetProfile, seed: int) -> list[Candidate]:
        """Networks whose latency is measured before training; by default all candidates.

        A method finds no other networks unless it `learns` them; then latencies of others are estimated from these,
        which include the smallest. Raises ValueError like `candidates`."""
        del seed
        return self.candidates(dataset)

    def network(self, dataset: DatasetProfile, config: Config) -> Architecture:
        """Network of a candidate's configuration. Raises ValueError for a method whose networks are not known before
        training."""
        del dataset, config
        raise ValueError(
            f"method {self.kind} learns its networks, so none can be measured before training; leave latency_ms out"
        )

    def planned_epochs(self, dataset: DatasetProfile) -> float:
        """Planned training epochs of all trials together, without limits; the duration of a search is proportional to
        them. 1 by default."""
        del dataset
        return 1

    def check_devices(self, devices: Sequence[str]) -> None:
        """Raises ValueError if it cannot search with latencies on the devices of the constraints and objectives."""
