"""Parameters of the search over compact families, and the networks it can find.

Source: Qin et al., "FD-MobileNet", 2018 (arXiv 1802.03750)."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, field_validator

from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost_by_metric
from paretofit.models.families import registry
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import UNSET, Auto, Candidate, Config, is_unset
from paretofit.search.contracts.start import StartRecord
from paretofit.search.methods.fd_mobilenet import presets
from paretofit.search.methods.fd_mobilenet.tuning import Pruning, Tuning
from paretofit.search.training.params import TrainingParams, input_size

Multiplier = Annotated[float, Field(ge=0.05, le=4)]


FAMILIES: Final = ("fd_mobilenet", "mobilenet_v1", "mobilenet_v2", "shufflenet_v1", "fd_shufflenet")
WIDTHS: Final = (0.25, 0.5, 0.75, 1.0)


class FdMobileNetParams(TrainingParams):
    """Networks of compact families at many widths and input resolutions, each trained on its own. A multi-objective TPE
    chooses the next network from the results so far."""

    summary: ClassVar[str] = "Compact families at every width and resolution, each network trained on its own."
    paper: ClassVar[str] = "Qin et al., FD-MobileNet, 2018 (arXiv 1802.03750)"
    tiny: ClassVar[dict[str, Any]] = presets.TINY
    presets: ClassVar[dict[str, dict[str, Any]]] = presets.FD_MOBILENET

    kind: Literal["fd_mobilenet"] = "fd_mobilenet"
    families: Auto[tuple[str, ...]] = Field(
        default=UNSET,
        min_length=1,
        max_length=32,
        description="Network families (`GET /v1/families`). Unset: the family of the start; without a start "
        "fd_mobilenet, mobilenet_v1, mobilenet_v2, shufflenet_v1 and fd_shufflenet.",
    )
    groups: tuple[int, ...] = Field(
        default=(3,),
        min_length=1,
        description="Numbers of groups in grouped convolutions, for the families that offer a choice: 1, 2, 3, 4 or 8.",
    )
    widths: Auto[tuple[Multiplier, ...]] = Field(
        default=UNSET,
        min_length=1,
        max_length=64,
        description="Width multipliers of the families' channels. Unset: 0.25, 0.5, 0.75 and 1; with a start, its "
        "width and those below it. Narrower networks keep the start's most important channels.",
    )
    trials: int = Field(default=24, ge=1, le=10_000, description="Number of networks to train.")
    parallel_trials: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Networks that are queued or in training at the same time. More keep more workers busy; fewer "
        "let each choice use more results.",
    )
    tuning: Tuning = Field(default=Tuning(), description="Training parameters to search in addition to the network.")
    pruning: Pruning = Field(default=Pruning(), description="When to stop trainings that other networks dominate.")

    @field_validator("families")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        for family in value:
            registry.architecture(family)
        return tuple(dict.fromkeys(value))

    @field_validator("groups", "widths")
    @classmethod
    def _ascending(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if value is None else tuple(sorted(set(value)))

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """Fill in the family of the start and widths up to its own."""
        chosen: dict[str, Any] = {"families": FAMILIES, "widths": WIDTHS}
        if start is not None:
            most = 1.0 if start.width is None else start.width
            chosen = {
                "families": (start.family,),
                "widths": (*(width for width in WIDTHS if width < most and start.fits(_of_width(start, width))), most),
                "groups": self._groups_of(start),
            }
            if start.width is None and is_unset(self.widths):
                # The network of a point, unchanged.
                chosen["widths"] = (start.largest_width(partial(_of_width, start)),)
        missing = {name: value for name, value in chosen.items() if name == "groups" or getattr(self, name) is None}
        found = super().resolved(dataset, start).checked(missing)
        if start is not None:
            for candidate in found.candidates(dataset):
                start.check(found.network(dataset, candidate.config))
        return found

    @property
    def fixes_statistics(self) -> bool:
        """Whether batch norm keeps the statistics of the trained weights: with effort `probe`, or with fewer than 16
        images per pass."""
        return self.start is not None and (self.effort == "probe" or self.batch_size // self.accumulation < 16)

    def planned_epochs(self, dataset: DatasetProfile) -> float:
        return self.trainings(len(self.candidates(dataset))) * self.epochs

    def trainings(self, networks: int) -> int:
        """Number of trials, given the number of networks. Each network is trained once, unless its recipe is searched
        too."""
        return self.trials if self.tuning.ranges else min(self.trials, networks)

    def network(self, dataset: DatasetProfile, config: Config) -> Architecture:
        return _network(
            str(config["family"]),
            float(config["width"]),
            int(config["groups"]) if "groups" in config else None,
            self.nominal or min(dataset.image_size),
            len(dataset.classes),
            dataset.channels,
        )

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """All distinct networks: families (with their groups) x widths x resolutions. Of equal networks the narrowest
        width counts."""
        self.check_batch(dataset)
        configs = [
            {"family": family} | ({"groups": groups} if groups else {}) | {"width": width}
            for family in self.families
            for groups in self._groups(family)
            for width in self.widths
        ]
        networks: dict[Architecture, dict[str, Any]] = {}
        for config in configs:
            networks.setdefault(self.network(dataset, config), config)
        return [
            self.candidate(dataset, {**config, "resolution": side})
            for config in networks.values()
            for side in self.sides(dataset)
        ]

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        """Network of a configuration: `family`, `groups` if the family offers a choice, `width` and `resolution`."""
        size = input_size(dataset, int(config["resolution"]))
        groups = f"-g{config['groups']}" if "groups" in config else ""
        return Candidate(
            key=f"{config['family']}{groups}-w{config['width']:g}-r{config['resolution']}",
            config=dict(config),
            input_size=size,
            cost=cost_by_metric(self.network(dataset, config), size),
        )

    def _groups_of(self, start: StartRecord) -> tuple[int, ...]:
        if start.groups is None:
            return self.groups
        if "groups" in self.model_fields_set and self.groups != (start.groups,):
            raise ValueError(
                f"groups: the start has {start.groups} groups: leave groups out, or set it to {start.groups}"
            )
        return (start.groups,)

    def _groups(self, family: str) -> tuple[int, ...]:
        if not (choice := registry.groups(family)):
            return (0,)
        if wrong := [number for number in self.groups if number not in choice]:
            raise ValueError(
                f"groups: {wrong[0]} is not available for {family}; choose from {', '.join(map(str, choice))}"
            )
        return self.groups


def _of_width(start: StartRecord, width: float) -> Architecture:
    own = start.network
    return _network(start.family, width, start.groups, own.nominal, own.classes, own.channels)


@lru_cache(maxsize=4096)
def _network(family: str, width: float, groups: int | None, nominal: int, classes: int, channels: int) -> Architecture:
    return registry.architecture(
        family, width=width, nominal=nominal, classes=classes, channels=channels, groups=groups
    )


PARAMS = (FdMobileNetParams,)
