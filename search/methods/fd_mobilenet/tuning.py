"""Parameters of the recipe search and of pruning. Torch-free."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
_Rate = Annotated[float, Field(gt=0, le=10)]
_Decay = Annotated[float, Field(gt=0, le=0.1)]
_Share = Annotated[float, Field(ge=0, lt=1)]


class Tuning(BaseModel):
    """Parameters of the recipe to search, each within a range; unset: the value of the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: tuple[_Rate, _Rate] | None = Field(
        default=None, description="Range of the learning rate, searched on a logarithmic scale."
    )
    weight_decay: tuple[_Decay, _Decay] | None = Field(
        default=None, description="Range of the weight decay, searched on a logarithmic scale."
    )
    label_smoothing: tuple[_Share, _Share] | None = Field(
        default=None, description="Range of the label smoothing, searched on a linear scale."
    )

    @field_validator("*")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"the range must be ascending, not {value[0]:g} to {value[1]:g}; swap the values")
        return value

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The parameters with a range."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class Pruning(BaseModel):
    """Ends a training early if a network that costs no more was better at the same fraction of its training.

    Both are compared on the same selection images, by the paired difference of their correct answers in standard errors
    (McNemar, 1947). This is our own rule, because Optuna's pruners support one objective only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fractions: tuple[Fraction, ...] = Field(
        default=(0.25, 0.5),
        max_length=8,
        description="Fractions of the training at which networks are compared. Empty: no training ends early.",
    )
    images: int = Field(
        default=1000, ge=100, le=10_000, description="Fraction of the selection split to compare networks on."
    )
    errors: float = Field(
        default=2.0,
        ge=0,
        le=10,
        description="Standard errors by which a network has to be worse; a higher value ends fewer trainings.",
    )

    @field_validator("fractions")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(value)))
