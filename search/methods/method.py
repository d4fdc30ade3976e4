"""What a method is made of: parameters, a pure plan, and a run. Torch-free.

A method is a folder: `params.py` (`PARAMS`: its parameter classes, one per kind), `plan.py` (`plan(spec, history) ->
Plan`, pure), `run.py` (`run(trial, reporter) -> outputs`, loaded only where it trains). One whose points name a
`supernet` has `extract.py` too (`extract(supernet, architecture, size) -> network`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from paretofit.models.architecture import Architecture
from paretofit.search.export.formats import ALL, Format
from paretofit.search.methods.start import Start, StartRecord

TrialState = Literal["queued", "running", "completed", "pruned", "infeasible", "failed", "cancelled"]
INITIAL: Final = "initial.safetensors"
"""Artifact of a search, and input of each of its trials: the weights that its method starts from
(`MethodParams.start`)."""
FLOOR: Final = "start_top1"
"""Output and metric of a training from trained weights: the selection accuracy that they have before its first step."""
START: Final = "start"
"""Input of every trial of a search that starts from trained weights: their file."""
Config = Mapping[str, float | int | str]
"""What a method varies, of one network: such as its width and its resolution."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetProfile(_Frozen):
    """What planning needs to know of a dataset: `image_size` is the height and width that training crops to."""

    classes: tuple[str, ...] = Field(min_length=2)
    channels: int = Field(ge=1)
    image_size: tuple[int, int]
    images: dict[str, int] = Field(description="Images per split: train, selection, report.")
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str


class Candidate(_Frozen):
    """A network that a method may find: its cost is arithmetic, known before any training."""

    key: str
    config: dict[str, float | int | str]
    input_size: tuple[int, int]
    cost: Mapping[str, int | float] = Field(
        description="macs, pool_inputs, params, peak_activation_bytes; `latency_ms:DEVICE` and `latency_p95_ms:DEVICE` "
        "once they are measured."
    )


class MethodParams(BaseModel):
    """The parameters of one kind of method; subclasses fix `kind` to a literal and document every field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: ClassVar[str]
    paper: ClassVar[str]
    tiny: ClassVar[dict[str, Any]]
    """Parameters of a preset that runs in <= 20 s on 2 cores: the contract tests' and the tutorials'."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Named parameters to start from, beside `tiny`."""
    learns: ClassVar[bool] = False
    """Whether its networks come about in training: points that lack a latency are measured once their trial has
    ended."""
    exports: ClassVar[tuple[Format, ...]] = ALL
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

    @abstractmethod
    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """Every network this method may find on a dataset. Raises ValueError for parameters that fit no network."""

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


class TrialArtifact(_Frozen):
    """An artifact of an earlier trial of the same search, or (no trial) of the search itself."""

    trial: int | None
    artifact: str


class NewTrial(_Frozen):
    """A unit of work to be queued."""

    params: dict[str, Any]
    inputs: dict[str, TrialArtifact] = Field(default_factory=dict)
    device: str | None = Field(
        default=None,
        description="Device that it measures on (`paretofit.search.latency.devices`): it runs on a worker that offers "
        "it, alone on the machine.",
    )


class TrialRecord(_Frozen):
    """A trial of a search's history, in the order of `number`."""

    number: int
    state: TrialState
    params: dict[str, Any]
    outputs: dict[str, Any] | None = Field(
        default=None,
        description="What `run` returned. A trial that trains says for how many `epochs`, and for how many it would "
        "have without limits (`planned_epochs`).",
    )
    points: tuple[dict[str, float], ...] = Field(default=(), description="The metrics of the points it reported.")


class Plan(_Frozen):
    """What comes next: trials to queue now; `done` when nothing will follow the trials that are still under way."""

    trials: tuple[NewTrial, ...] = ()
    done: bool = False
    stop_reason: Literal["max_trials", "max_epochs"] | None = Field(
        default=None, description="The limit for which the method plans less than was asked of it."
    )
