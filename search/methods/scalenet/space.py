"""The structures in a seed network's search space: channels at each scale, allocations, and costs.

Source: Li et al., ScaleNet, CVPR 2019 (arXiv 1904.09460).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Literal

from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost_by_metric
from paretofit.models.families import registry, scalenet
from paretofit.models.families.scaling import Scale
from paretofit.models.families.structures import SCALES, Structure
from paretofit.models.trace import Size
from paretofit.search.methods.scalenet.allocation import Allocated, Ladder, Measure, Site, allocate, ladder


@dataclass(frozen=True, slots=True)
class StructureSpace:
    """For one family and one dataset. `seed_ratio`: channels of the seed network at each scale, relative to a ResNet's
    block; `size`: height and width of the input in pixels."""

    family: str
    base_width: float
    seed_ratio: float
    nominal: int
    classes: int
    channels: int
    size: Size

    @property
    def planes(self) -> tuple[int, ...]:
        """Channels of a ResNet in place of each scale aggregation."""
        variant = scalenet.VARIANTS[self.family]
        return variant.rows(variant.widened(Scale(base_width=self.base_width)))

    @property
    def fixed(self) -> tuple[int | None, ...]:
        """Fixed channel counts of scale aggregations: the planes, for the second of a basic block."""
        bottleneck = scalenet.VARIANTS[self.family].bottleneck
        return tuple(None if bottleneck or i % 2 == 0 else planes for i, planes in enumerate(self.planes))

    @property
    def seed(self) -> Structure:
        """Structure of the seed network: the same number of channels at every scale."""
        return tuple((max(1, round(self.seed_ratio * planes)),) * len(SCALES) for planes in self.planes)

    @property
    def plain(self) -> Structure:
        """Structure of the plain ResNet: all channels at the largest scale."""
        return tuple((planes, 0, 0, 0) for planes in self.planes)

    def extreme(self, which: Literal["least", "most"]) -> Structure:
        """One channel, or all of the seed's, at the largest scale, where all costs are highest."""
        rows = zip(self.seed, self.fixed, strict=True)
        return tuple((width or (1 if which == "least" else sum(row)), 0, 0, 0) for row, width in rows)

    def even(self, bounds: Mapping[str, float]) -> Structure:
        """The largest structure with equal shares within bounds on costs. Raises InfeasibleAllocationError."""
        return self.allocate(ladder("even", self._uniform()), bounds).structure

    def architecture(self, structure: Structure) -> Architecture:
        """The network of a structure."""
        return _architecture(self.family, self.base_width, self.nominal, self.classes, self.channels, structure)

    def cost(self, structure: Structure) -> dict[str, int]:
        """Costs of a structure's network in its published form."""
        return cost_by_metric(self.architecture(structure), self.size)

    def cost_range(self, metric: str, *, single: bool) -> tuple[int, int]:
        """Upper bound of useful budgets: all channels of the seed, at any scale, or with `single` at the most expensive
        one."""
        largest = self.extreme("most") if single else ladder("even", self._uniform())[-1]
        return self.cost(self.extreme("least"))[metric], self.cost(largest)[metric]

    def allocate(
        self, steps: Ladder, bounds: Mapping[str, float], measures: Mapping[str, Measure] = MappingProxyType({})
    ) -> Allocated:
        """The largest structure of a ladder within bounds on costs and on `measures`. Raises
        InfeasibleAllocationError."""

        def counted(name: str, architecture: Architecture) -> float:
            return cost_by_metric(architecture, self.size)[name]

        known = {name: measures.get(name) or partial(counted, name) for name in bounds}
        return allocate(steps, self.architecture, known, bounds)

    def _uniform(self) -> list[Site]:
        """The seed's channels with equal importance."""
        rows = zip(self.planes, self.seed, self.fixed, strict=True)
        return [Site(planes, tuple((0.0,) * width for width in row), width=fixed) for planes, row, fixed in rows]


@lru_cache(maxsize=1024)
def _architecture(
    family: str, base_width: float, nominal: int, classes: int, channels: int, structure: Structure
) -> Architecture:
    return registry.architecture(
        family, base_width=base_width, nominal=nominal, classes=classes, channels=channels, structure=structure
    )
