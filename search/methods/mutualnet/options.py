"""Parameter groups of MutualNet: widths, baselines and the sweep."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Widths(BaseModel):
    """Width multipliers for training (any in [min, max]) and for the sweep (every `step`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float = Field(default=0.25, ge=0.05, le=2, description="Smallest multiplier of the full network's channels.")
    max: float = Field(
        default=1.0, ge=0.05, le=2, description="Largest width multiplier; this network is the teacher of the others."
    )
    step: float = Field(default=0.05, ge=0.01, le=1, description="Distance between the widths of the sweep.")

    @model_validator(mode="after")
    def _ordered(self) -> Widths:
        if self.min > self.max:
            raise ValueError(f"widths.min {self.min:g} is above widths.max {self.max:g}: lower min or raise max")
        return self

    def grid(self) -> list[float]:
        """Multipliers from `min` by `step`, and `max`."""
        count = int((self.max - self.min) / self.step + 1e-6)
        steps = [round(self.min + index * self.step, 6) for index in range(count + 1)]
        return steps if self.max - steps[-1] < 1e-6 else [*steps, self.max]


class Baseline(BaseModel):
    """A configuration that is trained on its own, for comparison."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: float = Field(default=1.0, ge=0.05, le=2, description="Width multiplier of the full network's channels.")
    resolution: int = Field(ge=8, le=1024, description="Shorter side of the input, in pixels.")


class Sweep(BaseModel):
    """Which networks of the supernet are measured, and on how many images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["grid", "adaptive"] = Field(
        default="grid",
        description="grid: measure all networks. adaptive: compare them on a part of the selection images, and "
        "measure those that may be on the front on all of them.",
    )
    budget: float = Field(
        default=0.3,
        gt=0,
        le=100,
        description="Images that an adaptive sweep may pass through networks, including calibration, as a fraction "
        "of the grid's. A small grid may need more, because at least 8 networks are measured.",
    )
