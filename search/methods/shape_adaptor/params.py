"""Parameters of Shape Adaptor, and the trainings that they define.

Source: Liu et al., Shape Adaptor, ECCV 2020 (arXiv 2008.00892).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from paretofit.models.architecture import Architecture
from paretofit.models.families import registry
from paretofit.models.families.adaptors import adapted, places
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import UNSET, Auto, Candidate, Config
from paretofit.search.contracts.start import StartRecord
from paretofit.search.methods.shape_adaptor import presets
from paretofit.search.methods.shape_adaptor.space import HUMAN, PLACEMENTS, ShapeSpace, key
from paretofit.search.training.params import TrainingParams, input_size, tuned

Mode = Literal["standard", "memory_bounded", "autosc", "autotl"]
SMALL: Final = 64
"""Inputs with a shorter side, in pixels, get fewer adaptors in compression."""


class ShapeAdaptorParams(TrainingParams):
    """Learns where a network reduces its feature maps, and by how much, together with the weights. Each network of the
    search is one training with a number of adaptors, an initial last side, a mode and a budget."""

    summary: ClassVar[str] = (
        "Where and by how much feature maps shrink, learned along with the weights, for any budget."
    )
    paper: ClassVar[str] = "Liu et al., Shape Adaptor, ECCV 2020 (arXiv 2008.00892)"
    tiny: ClassVar[dict[str, Any]] = presets.TINY
    presets: ClassVar[dict[str, dict[str, Any]]] = presets.PRESETS
    learns: ClassVar[bool] = True
    unrecorded: ClassVar[dict[str, Any]] = {**TrainingParams.unrecorded, "keep_last_channels": False}

    kind: Literal["shape_adaptor"] = "shape_adaptor"
    families: Auto[tuple[str, ...]] = Field(
        default=UNSET,
        min_length=1,
        max_length=16,
        description="Network families (`GET /v1/families`): vgg16, the ResNets, MobileNets and ShuffleNets, and "
        "WideResNets wrn_D_K of any depth D = 6 n + 4 and width K. Unset: the family of the start; without a start "
        "vgg16.",
    )
    base_width: Auto[float] = Field(
        default=UNSET,
        gt=0,
        le=4,
        description="Width multiplier of the families' channels. Unset: the width of the start; without a start 1.",
    )
    keep_last_channels: Auto[bool] = Field(
        default=UNSET,
        description="Whether MobileNetV2 keeps the 1280 channels of its last convolution at a base_width below 1, "
        "as published weights do. Unset: same as the start.",
    )
    resolutions: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="Shorter side of the input, in pixels; one value. Unset: the dataset's image size.",
    )
    modes: tuple[Mode, ...] = Field(
        default=("standard",),
        min_length=1,
        max_length=4,
        description="standard: adaptors replace all resizing. memory_bounded: also keeps the last map at or below "
        "the last side. autosc: adaptors in addition to the human-designed resizing, for compression. autotl: "
        "adaptors where the network resizes, starting from the weights of the human-designed network (`start`).",
    )
    adaptors: tuple[Annotated[int, Field(ge=1, le=32)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Numbers of shape adaptors. Unset: log2(side / 2), which is 4 at 32 pixels and 6 at 224; for "
        "autosc 2 (mobilenet_v2: 3), or 4 from 64 pixels. autotl has as many as the network resizes.",
    )
    last_sides: tuple[Annotated[int, Field(ge=2, le=1024)], ...] = Field(
        default=(8,),
        min_length=1,
        max_length=16,
        description="Initial sides of the last map, in pixels (memory_bounded: its limit).",
    )
    targets: tuple[Annotated[float, Field(ge=0, le=100)], ...] = Field(
        default=(1.0,),
        min_length=1,
        max_length=16,
        description="Multiply-accumulates of the learned network, relative to the human-designed one. The result is "
        "at most the target and close to it (autosc: at most). 0: no target.",
    )
    penalty: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="Weight of log^2(multiply-accumulates / target) in the loss of the alphas.",
    )
    alpha_learning_rate: float = Field(
        default=0.1,
        gt=0,
        le=100,
        description="Learning rate of the alphas, which use SGD with Nesterov momentum 0.9 and a cosine schedule.",
    )
    alpha_interval: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="Steps between updates of the alphas (ImageNet: 1500; compression: 200).",
    )
    settle: float = Field(
        default=0.75,
        gt=0,
        le=1,
        description="Fraction of the training after which the shape is fixed, adjusted to its target and the "
        "constraints. The paper learns to the end: 1.",
    )
    prune: bool = Field(
        default=False,
        description="Report each network a second time without the branches that have less than 0.001 of the blend.",
    )
    human: bool = Field(
        default=True,
        description="Train the human-designed network of each family with the same recipe, for comparison; listed "
        "separately from the front.",
    )
    random_shapes: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Random shapes of each family to train at the cost of each target; listed separately from the "
        "front.",
    )
    init_from: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Deprecated: use `start`. Id of a point with weights; without a service the path of its "
        "checkpoint.",
        json_schema_extra={"deprecated": True},
    )
    trials: int = Field(default=8, ge=1, le=10_000, description="Number of networks whose shape is learned.")
    parallel_trials: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Networks that are queued or in training at the same time. More keep more workers busy; fewer "
        "let each choice use more results.",
    )

    @field_validator("families")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        for family in value:
            places(registry.architecture(family), "replace")
        return tuple(dict.fromkeys(value))

    @field_validator("modes")
    @classmethod
    def _once(cls, value: tuple[Mode, ...]) -> tuple[Mode, ...]:
        return tuple(dict.fromkeys(value))

    @field_validator("adaptors", "last_sides", "targets")
    @classmethod
    def _ascending(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if value is None else tuple(sorted(set(value)))

    @model_validator(mode="before")
    @classmethod
    def _deprecated_name(cls, given: Any) -> Any:
        """`init_from` is the former name of `start`. A dumped model has both; only `start` resolves a path relative to
        the specification."""
        if not isinstance(given, dict) or given.get("init_from") is None:
            return given
        reference, start = given["init_from"], given.get("start")
        is_path = isinstance(reference, str) and ("/" in reference or reference.endswith(".safetensors"))
        field = "file" if is_path else "point"
        if start is None:
            return given | {"start": {field: reference}}
        named = start.get(field) if isinstance(start, dict) else getattr(start, field, None)
        parts = PurePath(reference).parts if is_path else ()
        if named != reference and not (is_path and named and PurePath(named).parts[-len(parts) :] == parts):
            raise ValueError("init_from: differs from start, which replaces it: leave init_from out")
        return given

    @model_validator(mode="after")
    def _pretrained(self) -> Self:
        if self.start is None and "autotl" in self.modes and not self.human:
            raise ValueError(
                "human: mode autotl starts from the human-designed network's weights; leave it on, or give a start"
            )
        if self.start is not None and self.families is not None and len(self.families) > 1:
            raise ValueError(
                f"start: has one family, but families are {', '.join(self.families)}; search each of them separately"
            )
        return self

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """Fill in the family and width of the start."""
        chosen = {
            "families": ("vgg16",) if start is None else (start.family,),
            "base_width": 1.0 if start is None else start.width or 1.0,
            "keep_last_channels": start is not None and start.keep_last_channels,
        }
        missing = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        found = super().resolved(dataset, start).checked(missing | tuned(self.effort, self.kind))
        if start is not None:
            start.check(found.designed(dataset, found.families[0]))
        return found

    @property
    def trains_start(self) -> bool:
        """Whether the first trials train the human-designed networks, whose weights other trials start from."""
        return "autotl" in self.modes and self.start is None

    @property
    def least_trials(self) -> int:
        """One trial, after those whose weights it needs."""
        return 1 + (len(self.families) if self.trains_start else 0)

    @property
    def least_epochs(self) -> int:
        """One epoch for each of these trials."""
        return self.least_trials

    def input_size(self, dataset: DatasetProfile) -> tuple[int, int]:
        """Height and width in pixels. Raises ValueError for a side beyond the dataset's image size."""
        return dataset.image_size if self.resolutions is None else input_size(dataset, self.sides(dataset)[0])

    def designed(self, dataset: DatasetProfile, family: str) -> Architecture:
        """The human-designed network of a family."""
        nominal = self.nominal or min(dataset.image_size)
        kept = self.keep_last_channels
        return _designed(
            family, self.base_width, nominal, len(dataset.classes), dataset.channels, keep_last_channels=kept
        )

    def numbers(self, dataset: DatasetProfile, family: str, mode: str) -> tuple[int, ...]:
        """Numbers of adaptors to choose from."""
        side = min(self.input_size(dataset))
        if mode == "autotl":
            return (places(self.designed(dataset, family), "resizing"),)
        if self.adaptors is not None:
            return self.adaptors
        if mode == "autosc":
            return (4 if side >= SMALL else 3 if family == "mobilenet_v2" else 2,)
        return (max(1, int(math.log2(side / 2))),)

    def configs(self, dataset: DatasetProfile) -> list[dict[str, Any]]:
        """Every training that learns a shape: family and mode with a number of adaptors and a target, and a last side
        where the mode has a choice. Raises ValueError if a family has too few places for the adaptors."""
        found = []
        for family in self.families:
            for mode in self.modes:
                sides: tuple[int | None, ...] = (None,) if mode in ("autosc", "autotl") else self.last_sides
                # A compressed network cannot cost more than the human-designed one.
                targets = sorted({0.0 if mode == "autosc" and target >= 1 else target for target in self.targets})
                for number in self.numbers(dataset, family, mode):
                    adapted(self.designed(dataset, family), number, PLACEMENTS[mode])
                    for side in sides:
                        place = {"family": family, "mode": mode, "adaptors": number}
                        at = {} if side is None else {"last_side": side}
                        found += [place | at | {"target": target} for target in targets]
        return found

    def space(self, dataset: DatasetProfile, config: Config) -> ShapeSpace:
        """The shapes that the network of a configuration can have."""
        return ShapeSpace(self.designed(dataset, str(config["family"])), self.input_size(dataset), config)

    def network(self, dataset: DatasetProfile, config: Config) -> Architecture:
        """The network of the item `shape`, which is learned, or the human-designed one. Measured candidates have a
        shape."""
        if config.get("mode") != HUMAN and "shape" not in config:
            return super().network(dataset, config)
        return self.space(dataset, config).network

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        """Candidate of a network whose shape is known."""
        return self.space(dataset, config).candidate(key(config), self.network(dataset, config))

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """The smallest network of each kind, and one candidate per training."""
        self.check_batch(dataset)
        spaces = [self.space(dataset, config) for config in self.configs(dataset)]
        return _unique(candidate for space in spaces for candidate in space.candidates())

    def measured(self, dataset: DatasetProfile, seed: int) -> list[Candidate]:
        """The smallest network of each kind, a lower bound for all that can be learned, and for each target a network
        of that cost (without a target the initial network)."""
        del seed
        self.candidates(dataset)
        spaces = [self.space(dataset, config) for config in self.configs(dataset)]
        return _unique(candidate for space in spaces for candidate in space.measured())


def _unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Keeps the first candidate of each key."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        found.setdefault(candidate.key, candidate)
    return list(found.values())


@lru_cache(maxsize=1024)
def _designed(
    family: str, base_width: float, nominal: int, classes: int, channels: int, *, keep_last_channels: bool
) -> Architecture:
    # ShuffleNets have no multiplier in addition to the width.
    name = "width" if registry.groups(family) else "base_width"
    scaled: dict[str, Any] = {name: base_width, "keep_last_channels": keep_last_channels}
    return registry.architecture(family, nominal=nominal, classes=classes, channels=channels, **scaled)


PARAMS = (ShapeAdaptorParams,)
