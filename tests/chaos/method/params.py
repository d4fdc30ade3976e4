"""Parameters of the method of the chaos run: real trials with steps of milliseconds, which keep a diary."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import Candidate, MethodParams

STEPS = 60
CHECKPOINT_EVERY = 20


class WitnessedParams(MethodParams):
    """Hashes step by step, without torch. The weights of the first trial are the input of the last one."""

    summary: ClassVar[str] = "Hashes, and records every step outside the service."
    paper: ClassVar[str] = "none"
    tiny: ClassVar[dict[str, Any]] = {"trials": 2, "steps": 5}

    kind: Literal["witnessed"] = "witnessed"
    trials: int = Field(default=2, ge=1, description="Trials planned at once; one more follows them.")
    steps: int = Field(default=STEPS, ge=1, description="Steps of each trial.")
    seconds: float = Field(default=0.01, ge=0, description="Seconds per step.")
    checkpoint_every: int = Field(default=CHECKPOINT_EVERY, ge=1, description="Steps between checkpoints.")

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        cost = {"macs": 1000, "pool_inputs": 0, "params": 10, "peak_activation_bytes": 100}
        return [Candidate(key="net", config={}, input_size=dataset.image_size, cost=cost)]


PARAMS = (WitnessedParams,)
