"""Parameters of a method whose steps take milliseconds: real trials for tests of everything around training."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import Candidate, MethodParams
from paretofit.search.contracts.point import Format


class StepsParams(MethodParams):
    """Counts steps without torch; the last trial takes the artifact of the first as its input."""

    summary: ClassVar[str] = "Counts."
    paper: ClassVar[str] = "none"
    tiny: ClassVar[dict[str, Any]] = {"trials": 2, "steps": 5}
    exports: ClassVar[tuple[Format, ...]] = ("safetensors", "onnx")

    kind: Literal["steps"] = "steps"
    trials: int = Field(
        default=1, ge=1, description="Number of trials, all planned at once; one more follows if `then` is set."
    )
    then: bool = Field(default=False, description="Whether a last trial takes trial 0's artifact as its input.")
    steps: int = Field(default=10, ge=1, description="Steps of each trial.")
    seconds: float = Field(default=0.001, ge=0, description="Seconds of each step.")
    checkpoint_every: int = Field(default=5, ge=1, description="Steps between checkpoints.")
    points: int = Field(default=2, ge=0, description="Number of points that each trial reports at its end.")
    fault: Literal[
        "none",
        "raise",
        "diverge",
        "exit",
        "plan",
        "nan",
        "deaf",
        "stubborn",
        "memory",
        "memory_always",
        "hang",
        "prune",
        "infeasible",
        "not_learning",
        "not_learning_first",
    ] = Field(
        default="none",
        description="At half of the steps. raise: raise an error. diverge: diverge. exit: exit silently. plan: fail "
        "to plan. nan: report a point that is not finite. memory: run out of memory, unless the batch is halved, "
        "or always. hang: stop making progress in the first attempt. deaf: never check for a stop. prune, "
        "infeasible: end in that state. stubborn: also ignore SIGTERM. not_learning: raise an error with that "
        "code, in every trial or in the first.",
    )

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        return [
            Candidate(
                key=f"net-{index}",
                config={"index": index},
                input_size=dataset.image_size,
                cost={"macs": 1000 * (index + 1), "pool_inputs": 0, "params": 10, "peak_activation_bytes": 100},
            )
            for index in range(max(self.points, 1))
        ]


PARAMS = (StepsParams,)
