"""How a trained network is swept: parameters. Torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Sweep(BaseModel):
    """Which of the networks that a trained one contains are measured, and on how many images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["grid", "adaptive"] = Field(
        default="grid",
        description="grid: all are measured. adaptive: they are compared on a part of the selection images, and those "
        "that may be on the front are measured on all.",
    )
    budget: float = Field(
        default=0.3,
        gt=0,
        le=100,
        description="Images that an adaptive sweep may pass through networks, calibration counted, as a share of what "
        "the grid takes. Of a small grid it takes more, because at least 8 networks are measured.",
    )
