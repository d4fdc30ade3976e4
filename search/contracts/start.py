"""The trained weights that a search starts from: reference and record. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from paretofit.core.formatting import count
from paretofit.models.architecture import Architecture
from paretofit.models.families import registry
from paretofit.models.pretrained.layouts import read_weights_record
from paretofit.models.pretrained.record import licence_of_point
from paretofit.models.trace import Layer
from paretofit.search.contracts.base import Contract


class Start(Contract):
    """Where the trained weights come from: exactly one of the fields."""

    weights: str | None = Field(
        default=None, min_length=1, max_length=200, description="Id or name of trained weights (`GET /v1/weights`)."
    )
    point: str | None = Field(
        default=None, min_length=1, max_length=200, description="Id of a point with weights, from any of your searches."
    )
    file: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Without a service: path of a weights file (`python -m paretofit.search weights`) or of a "
        "point's checkpoint.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of weights, point and file, not {' and '.join(given) or 'none'}")
        return self

    @property
    def reference(self) -> str:
        """The id, name or path."""
        return str(self.weights or self.point or self.file)


class StartRecord(Contract):
    """Record of the weights that a search starts from. `architecture` is the network that they belong to."""

    kind: Literal["weights", "point"]
    family: str
    width: float | None = Field(default=None, description="Width multiplier of published weights; null for a point.")
    slimmable: bool = Field(default=False, description="Whether all channel counts are multiples of 8.")
    keep_last_channels: bool = Field(default=False, description="Whether its last layer keeps the channels of width 1.")
    groups: int | None = Field(default=None, description="Groups of convolutions, where a family offers a choice.")
    architecture: dict[str, Any] = Field(description="Architecture JSON (`paretofit.models.architecture`).")
    classes: tuple[str, ...] | None = Field(default=None, description="Class names of its classifier, if known.")
    mean: tuple[float, ...] = Field(description="Mean per channel, for values in [0, 1].")
    std: tuple[float, ...] = Field(description="Standard deviation per channel, for values in [0, 1].")
    source: str
    sha256: str
    licence: str

    @classmethod
    def of(cls, record: Mapping[str, Any], sha256: str) -> Self:
        """From the record in the header of a weights file or of a point's checkpoint with digest `sha256`. Raises
        ValueError for any other record."""
        if record.get("kind") == "weights":
            weights = read_weights_record(record)
            return cls(
                kind="weights",
                family=weights.family,
                width=weights.width,
                slimmable=weights.slimmable,
                keep_last_channels=weights.keep_last_channels,
                groups=weights.groups,
                architecture=weights.architecture().to_json(),
                classes=weights.class_names,
                mean=weights.mean,
                std=weights.std,
                source=weights.source,
                sha256=sha256,
                licence=weights.licence,
            )
        try:
            architecture = Architecture.from_json(record.get("architecture", {}))
            preprocessing = record["preprocessing"]
            return cls(
                kind="point",
                family=architecture.family,
                architecture=architecture.to_json(),
                classes=record["classes"],
                mean=preprocessing["mean"],
                std=preprocessing["std"],
                source=f"point {record['key']}",
                sha256=sha256,
                licence=licence_of_point(record),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the record belongs to neither trained weights nor a point ({error}): use a file that Paretofit wrote"
            ) from error

    @property
    def network(self) -> Architecture:
        """The network that the weights belong to."""
        return Architecture.from_json(self.architecture)

    def normalization(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation for images with this number of channels. Grayscale images get the channel
        averages, because the first convolution is summed over the color channels. Raises ValueError for color images
        if the weights are for grayscale ones."""
        if channels == len(self.mean):
            return self.mean, self.std
        if channels != 1:
            raise ValueError(
                f"start: its weights are for images with {count(len(self.mean), 'channel')}, but the dataset's have "
                f"{channels}: start from weights for color images"
            )
        return (sum(self.mean) / len(self.mean),) * channels, (sum(self.std) / len(self.std),) * channels

    @property
    def nominal(self) -> int | None:
        """Nominal size that networks must have to start from it; None: any."""
        return self.network.nominal if self.width is None else None

    def full(self, channels: int, classes: int, nominal: int) -> Architecture:
        """The network with all of its channels, for this number of image channels and classes. Raises ValueError if it
        does not exist at this nominal size."""
        if self.width is not None:
            return registry.architecture(
                self.family,
                slimmable=self.slimmable,
                base_width=self.width,
                keep_last_channels=self.keep_last_channels,
                groups=self.groups,
                nominal=nominal,
                classes=classes,
                channels=channels,
            )
        own = self.network
        if nominal != own.nominal:
            raise ValueError(self._other_nominal(nominal))
        first, *middle, last = own.blocks
        ends = replace(first, in_channels=channels), replace(last, out_channels=classes)  # type: ignore[type-var]
        return replace(own, channels=channels, classes=classes, blocks=(ends[0], *middle, ends[1]))

    def _other_nominal(self, nominal: int) -> str:
        return f"nominal: {nominal} differs from that of the start's network: use {self.nominal}, or leave it out"

    def fits(self, target: Architecture) -> bool:
        """Whether `check` accepts `target`."""
        try:
            self.check(target)
        except ValueError:
            return False
        return True

    def largest_width(self, network: Callable[[float], Architecture]) -> float:
        """The largest multiplier, in hundredths, at which `network` fits into its own network; channels grow with it.
        Raises ValueError if there is none."""

        def fits(hundredths: int) -> bool:
            return self.fits(network(hundredths / 100))

        low, high = 10, 401
        if not fits(low):
            raise ValueError(f"start: its network contains no {self.family} of any width: start from another point")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low / 100

    def provenance(self) -> dict[str, Any]:
        """Provenance that every point records."""
        return self.model_dump(mode="json", exclude={"architecture", "classes", "mean", "std"})

    def check(self, target: Architecture) -> None:
        """Raises ValueError unless `target` can take these weights: the same layers with at most as many channels. The
        image channels, the classes and, for published weights, the stem (which depends on the nominal size) may
        differ."""
        own = self.network
        if own.family != target.family:
            raise ValueError(
                f"start: its family is {own.family}, but the network's is {target.family}: use a start of that family"
            )
        if self.nominal not in (None, target.nominal):
            raise ValueError(self._other_nominal(target.nominal))
        wide, narrow = _body(own), _body(target)
        if [_kind(layer) for layer in wide] != [_kind(layer) for layer in narrow]:
            raise ValueError(
                f"start: its {own.family} has other layers than the network to train: use its depth and groups"
                + ("" if self.kind == "weights" else "; points of spatial_sampling, which have masks, cannot be starts")
            )
        for ours, theirs in zip(wide, narrow, strict=True):
            if _group(ours) != _group(theirs):
                raise ValueError(
                    f"start: the groups of {theirs.name} differ from those of the start, and grouped convolutions "
                    "can only lose whole groups: use the start's width and groups"
                )
            if theirs.output.channels > ours.output.channels:
                raise ValueError(
                    (
                        f"start: the network to train has {theirs.output.channels} channels in {theirs.name}, but the "
                        f"start has {ours.output.channels}: choose a smaller width, at most that of the start"
                    )
                    + (f" ({self.width:g})" if self.width is not None else "")
                )


def _body(architecture: Architecture) -> list[Layer]:
    """The layers with weights, without the stem's convolution and the classifier."""
    layers = architecture.layers((architecture.nominal, architecture.nominal))
    return [layer for layer in layers if layer.op == "conv"][1:]


def _group(layer: Layer) -> tuple[int, int] | None:
    """Input and output channels of each group; None if there is one group."""
    if layer.groups == 1:
        return None
    return layer.input.channels // layer.groups, layer.output.channels // layer.groups


def _kind(layer: Layer) -> tuple[int, bool, bool]:
    depthwise = layer.groups == layer.input.channels > 1
    return layer.kernel, layer.groups > 1, depthwise
