"""What may be chosen of a recipe, and when a training is given up: parameters. Torch-free."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
_Rate = Annotated[float, Field(gt=0, le=10)]
_Decay = Annotated[float, Field(gt=0, le=0.1)]
_Share = Annotated[float, Field(ge=0, lt=1)]


class Tuning(BaseModel):
    """The parameters of the recipe that are searched too, each between two values; unset: it is what the recipe
    says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: tuple[_Rate, _Rate] | None = Field(default=None, description="Searched on a logarithmic scale.")
    weight_decay: tuple[_Decay, _Decay] | None = Field(default=None, description="Searched on a logarithmic scale.")
    label_smoothing: tuple[_Share, _Share] | None = Field(default=None, description="Searched on a linear scale.")

    @field_validator("*")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"the range must grow, not go from {value[0]:g} to {value[1]:g}")
        return value

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Those that are searched."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class Pruning(BaseModel):
    """A training ends early if, at the same fraction of it, a network that costs no more was better.

    Both are compared on the same selection images: the difference of their correct answers, in standard errors of the
    paired difference (McNemar, 1947). Our own rule: Optuna's pruners know one objective.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fractions: tuple[Fraction, ...] = Field(
        default=(0.25, 0.5),
        max_length=8,
        description="Of the training, when it is compared. Empty: every training goes to its end.",
    )
    images: int = Field(
        default=1000, ge=100, le=10_000, description="Of the selection split, that networks are compared on."
    )
    errors: float = Field(
        default=2.0, ge=0, le=10, description="Standard errors by which it has to be worse: more ends fewer trainings."
    )

    @field_validator("fractions")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(value)))
