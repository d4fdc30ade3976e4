"""The record in the header of a file of trained weights. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from paretofit.models.architecture import Architecture
from paretofit.models.families import registry

MAX_WIDTH: Final = 16
MAX_DROPPED: Final = 20
"""Maximum number of unused tensor names in a record; it counts all of them."""
_MAX_NAME: Final = 300
OF_IMAGES: Final = "that of its training images"
"""License of weights that were trained from scratch."""


class PretrainedError(ValueError):
    """The weights cannot be used: the message states the problem and the remedy."""


def licence_of_point(record: Mapping[str, Any]) -> str:
    """License of a point's weights, from the record in its checkpoint: that of the weights its training started
    from."""
    provenance = record.get("provenance")
    start = provenance.get("start") if isinstance(provenance, Mapping) else None
    licence = start.get("licence") if isinstance(start, Mapping) else None
    return licence if isinstance(licence, str) else OF_IMAGES


Finite = Annotated[float, Field(allow_inf_nan=False)]


class WeightsRecord(BaseModel):
    """The header record of a weights file: a safetensors file with Paretofit's tensor names, float32.

    `width` multiplies the channels of the family's table. `classes` is the number of rows of the file's classifier;
    None without one. `mean` and `std` normalize pixels in 0..1, one number per input channel. `sha256` is the digest of
    the converted file. `dropped` has the names of its first `MAX_DROPPED` unused tensors, `dropped_count` their total.
    Texts are bounded, because the record can come from an untrusted file. Raises ValueError for inconsistent fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["weights"] = "weights"
    version: Literal[1] = 1
    family: str = Field(max_length=100)
    width: float = Field(gt=0, le=MAX_WIDTH, allow_inf_nan=False)
    groups: int | None = None
    slimmable: bool = False
    """Whether channels are rounded to multiples of 8 as in slimmable networks; matters only where families truncate."""
    keep_last_channels: bool = True
    """Whether MobileNetV2 keeps the 1280 channels of its last convolution at widths below 1, as published ones do."""
    channels: int = Field(default=3, ge=1, le=1024)
    nominal: int = Field(default=224, ge=4)
    classes: int | None = Field(default=None, ge=1)
    class_names: tuple[Annotated[str, Field(max_length=255)], ...] | None = Field(default=None, max_length=100_000)
    mean: tuple[Finite, ...]
    std: tuple[Annotated[Finite, Field(gt=0)], ...]
    layout: str = Field(max_length=100)
    source: str = Field(max_length=500)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str = Field(max_length=500)
    dropped: tuple[Annotated[str, Field(max_length=_MAX_NAME)], ...] = Field(default=(), max_length=MAX_DROPPED)
    dropped_count: int = Field(default=0, ge=0, le=1_000_000)
    notes: tuple[Annotated[str, Field(max_length=1000)], ...] = Field(default=(), max_length=20)

    @model_validator(mode="before")
    @classmethod
    def _shorten(cls, given: Any) -> Any:
        """Accepts all names as `dropped`: the first ones are kept, truncated if long, and all are counted."""
        if not isinstance(given, dict) or not isinstance(names := given.get("dropped"), list | tuple):
            return given
        kept = [name[:_MAX_NAME] if isinstance(name, str) else name for name in names[:MAX_DROPPED]]
        return {"dropped_count": len(names)} | given | {"dropped": kept}

    @model_validator(mode="after")
    def _check_lengths(self) -> WeightsRecord:
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(f"{name} needs {self.channels} numbers, one per input channel")
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise ValueError(f"class_names has {len(self.class_names)} names for {self.classes or 'no'} classes")
        return self

    def architecture(self) -> Architecture:
        """The network of the file's tensors, with 1000 classes if the file has no classifier. Raises PretrainedError if
        the family does not support this width."""
        return self._build(self.slimmable)

    def slimmable_architecture(self) -> Architecture:
        """The same network as the full width of a slimmable one: its channels are `base_width` times the family's.

        Raises PretrainedError if the family is not slimmable, or if rounding to multiples of 8 changes the channels.
        """
        found = self._build(slimmable=True)
        if found != self.architecture():
            raise PretrainedError(
                f"{self.family} x {self.width:g} has channels that are not multiples of 8, so a slimmable network "
                "cannot start from it: use weights of another width, or a method that trains fixed networks"
            )
        return found

    def _build(self, slimmable: bool) -> Architecture:  # noqa: FBT001 - private, and called by name where it is not a field
        try:
            return registry.architecture(
                self.family,
                slimmable=slimmable,
                base_width=self.width,
                keep_last_channels=self.keep_last_channels,
                groups=self.groups,
                nominal=self.nominal,
                classes=self.classes or 1000,
                channels=self.channels,
            )
        except ValueError as error:
            raise PretrainedError(f"weights of {self.family} x {self.width:g}: {error}") from error
