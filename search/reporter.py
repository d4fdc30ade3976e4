"""What crosses between a method and whoever runs it: a trial goes in, metrics, points and artifacts come back.

Torch-free. A method knows nothing of the service; a script, a test or a trial process implements `Reporter`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from paretofit.search.latency.table import Measured
from paretofit.search.spec import ResolvedSpec


class Stop(StrEnum):
    """What a running trial is asked to do: go on, end now, checkpoint and end, or report what it has and end."""

    NO = "no"
    CANCEL = "cancel"
    DRAIN = "drain"
    LIMIT = "limit"


class TrialEndedError(Exception):
    """A method's `run` raises it to end its trial in another state than `completed`, which is no failure: `pruned`,
    because others dominate it, or `infeasible`, because it cannot meet the constraints. `error` tells its reader
    why."""

    def __init__(
        self,
        state: Literal["pruned", "infeasible"],
        outputs: dict[str, Any],
        error: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(state if error is None else error["detail"])
        self.state = state
        self.outputs = outputs
        self.error = error


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Frozen):
    """From a stored uint8 image to the network's input: centre crop to `crop`, scale to [0, 1], normalise per channel,
    resize to the input size. The crop's first row is floor((image height - crop height) / 2), negative for a smaller
    image; columns likewise.

    With `frame` "resize", an image whose height or width is smaller than the crop's is treated differently: its largest
    centered box of the crop's aspect ratio is enlarged to the crop, bilinearly with half-pixel centers and
    unrounded."""

    crop: tuple[int, int] = Field(description="Height and width of the centre crop, pixels.")
    frame: Literal["zeros", "resize"] = Field(
        default="zeros",
        description="What surrounds an image that is smaller than the crop. zeros: a black border (records without "
        "this field); resize: nothing, since its largest centered box of the crop's aspect ratio is enlarged to the "
        "crop.",
    )
    mean: tuple[float, ...] = Field(description="Per channel, of values in [0, 1].")
    std: tuple[float, ...] = Field(description="Per channel, of values in [0, 1].")
    resize: Literal["bilinear"] = "bilinear"
    align_corners: bool = True
    antialias: bool = False


class Evaluation(_Frozen):
    """Under which an accuracy is exact to the image: the device kind, batch, dtype, memory format and threads."""

    device: str
    batch_size: int
    dtype: str
    memory_format: Literal["contiguous", "channels_last"]
    threads: int


class Point(_Frozen):
    """One architecture with its metrics. Reporting the same `key` again in a trial replaces the former report.

    `metrics` holds at least `selection_top1` (fractions in [0, 1]), `macs`, `params`, `pool_inputs` and
    `peak_activation_bytes`; `top1` (report split) on front points only. `weights` names an artifact of the same trial:
    the safetensors checkpoint. A point without weights of its own is cut from `supernet` on request.
    """

    key: str
    architecture: dict[str, Any] = Field(description="Architecture JSON (`paretofit.models.architecture`).")
    input_size: tuple[int, int] = Field(description="Height and width, pixels.")
    classes: tuple[str, ...]
    config: dict[str, float | int | str] = Field(description="What the method varied, such as width and resolution.")
    metrics: dict[str, float]
    preprocessing: Preprocessing
    evaluation: Evaluation
    provenance: dict[str, Any] = Field(default_factory=dict)
    role: Literal["candidate", "baseline"] = "candidate"
    weights: str | None = None
    supernet: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A unit of work laid out on this machine.

    `inputs` maps the plan's input names to files; `dataset` is a dataset directory (`paretofit.search.data`); `work` is
    an empty scratch folder; `checkpoint` is the folder of the last checkpoint of an earlier attempt; `seed` is the
    trial's own. `batch_scale` is 1, or 0.5 after an attempt ran out of memory: multiply batch sizes by it. A training
    saves itself every `checkpoint_seconds`.
    """

    number: int
    spec: ResolvedSpec
    params: dict[str, Any]
    dataset: Path
    work: Path
    device: str = "cpu"
    seed: int = 0
    inputs: dict[str, Path] = field(default_factory=dict)
    checkpoint: Path | None = None
    batch_scale: float = 1.0
    checkpoint_seconds: float = 30.0


class Reporter(Protocol):
    """Where a method's results go. Calls return at once; what they hand over is kept in the order of the calls."""

    def metric(self, name: str, step: int, value: float) -> None:
        """A curve's value at a step. The metric `progress` is the trial's done fraction in [0, 1]."""

    def point(self, point: Point) -> None:
        """A network that was found. Its `weights` artifact must have been reported before."""

    def artifact(self, name: str, path: Path) -> None:
        """A finished file of this trial under a name of its own. The file must not change afterwards."""

    def latency(self, measured: Measured) -> None:
        """How long a network takes on a device: kept for other searches too."""

    def checkpoint(self, path: Path, step: int) -> None:
        """A folder from which the trial can go on; its manifest is written last. The reporter takes the folder."""

    def should_stop(self) -> Stop:
        """What is asked of the trial now. Cheap: call it every step."""
