"""Trained weights as a user submits them. Torch-free; pydantic only."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from paretofit.search.contracts.base import Contract

MAX_FILE_BYTES: Final = 1024**3
"""Maximum size of an uploaded file: about twice that of the largest network with a known layout."""
Channels = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=1, max_length=3)]
ClassName = Annotated[str, Field(min_length=1, max_length=200)]


class UploadedFile(Contract):
    """A safetensors file in a layout that Paretofit recognizes, uploaded afterwards."""

    kind: Literal["upload"] = "upload"


class NamedSource(Contract):
    """Published weights that the service downloads and verifies (`GET /v1/weights/sources`)."""

    kind: Literal["named"] = "named"
    name: str = Field(min_length=1, max_length=200)


class WeightsSpec(Contract):
    """New weights. `licence`, `mean`, `std` and `class_names` describe an uploaded file; a named source provides its
    own."""

    name: str = Field(min_length=1, max_length=200)
    source: Annotated[UploadedFile | NamedSource, Field(discriminator="kind")]
    licence: str | None = Field(
        default=None, max_length=500, description="License of the weights, as far as you know; shown in model cards."
    )
    mean: Channels | None = Field(
        default=None,
        description="Mean of each color channel, for pixels from 0 to 1, that the weights were trained with. Unset: "
        "the layout's usual one.",
    )
    std: Channels | None = Field(
        default=None, description="Standard deviation of each color channel, as `mean`; give both or neither."
    )
    class_names: tuple[ClassName, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=100_000,
        description="Names of the classifier's outputs, in order. The classifier is used only for a dataset with "
        "these classes.",
    )

    allow_non_commercial: bool = Field(
        default=False,
        description="Accept a file whose name or license restricts it to non-commercial use; you confirm that your "
        "use is permitted.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        described = {name: getattr(self, name) for name in ("licence", "mean", "std", "class_names")}
        given = [name for name, value in described.items() if value is not None]
        if isinstance(self.source, NamedSource) and given:
            raise ValueError(f"{given[0]}: the named source provides its own: leave it out, or upload a file")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std must be given together: give both, or neither")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std):
                raise ValueError(
                    f"mean has {len(self.mean)} channels, but std has {len(self.std)}: give the same number of each"
                )
            if min(self.std) <= 0:
                raise ValueError("std must be greater than 0 in every channel")
        if self.class_names is not None and len(set(self.class_names)) < len(self.class_names):
            raise ValueError("class_names: a class is repeated: give each once")
        return self

    @property
    def options(self) -> dict[str, object]:
        """The fields that describe the file, as JSON."""
        return self.model_dump(mode="json", include={"licence", "mean", "std", "class_names", "allow_non_commercial"})
