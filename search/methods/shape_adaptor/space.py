"""Search space of one configuration of Shape Adaptor: initial shape and range of costs.

Source: Liu et al., Shape Adaptor, ECCV 2020 (arXiv 2008.00892).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost_by_metric
from paretofit.models.families.adaptors import Placement, adapted
from paretofit.models.families.shapes import Rule, Shape, Sizes, initial_alpha, shaped
from paretofit.models.trace import Size
from paretofit.search.contracts.params import Candidate, Config

PLACEMENTS: Final[dict[str, Placement]] = {
    "standard": "replace",
    "memory_bounded": "replace",
    "autosc": "add",
    "autotl": "resizing",
}
COMPRESSED_ALPHA: Final = 2.19
"""Alpha of the factor 0.95; its negative is that of 0.55."""
EXTREME: Final = 100.0
"""Alpha beyond which the factor is at its minimum or maximum."""

HUMAN: Final = "human"
RANDOM: Final = "random"


@dataclass(frozen=True, slots=True)
class ShapeSpace:
    """The shapes that a configuration's network can have. `designed` is the human-designed network of its family,
    `size` the height and width of the input in pixels."""

    designed: Architecture
    size: Size
    config: Config

    @property
    def rule(self) -> Rule:
        """The network with its adaptors, and the rule for their sizes."""
        mode = str(self.config["mode"])
        network = _adapted(self.designed, int(self.config["adaptors"]), PLACEMENTS.get(mode, "replace"))
        limit = int(self.config["last_side"]) if mode == "memory_bounded" else None
        return _rule(network, self.size, in_all=mode == "autosc", limit=limit)

    @property
    def alpha(self) -> float:
        """Initial alpha of every adaptor."""
        match self.config["mode"]:
            case "autosc":
                return COMPRESSED_ALPHA
            case "autotl":
                return -COMPRESSED_ALPHA
            case _:
                return initial_alpha(min(self.size), int(self.config["last_side"]), int(self.config["adaptors"]))

    @property
    def target_macs(self) -> float | None:
        """Multiply-accumulates of the target; None without one."""
        target = float(self.config["target"])
        return target * cost_by_metric(self.designed, self.size)["macs"] if target else None

    @property
    def network(self) -> Architecture:
        """The human-designed network, or that of the item `shape`."""
        if self.config["mode"] == HUMAN:
            return self.designed
        return shaped(self.rule.network, Shape.from_line(str(self.config["shape"])))

    def candidate(self, name: str, network: Architecture) -> Candidate:
        """Candidate of the configuration with its costs."""
        return self._candidate(name, self.config, cost_by_metric(network, self.size))

    def candidates(self) -> tuple[Candidate, Candidate]:
        """The smallest network, and the learned one.

        The multiply-accumulates of the latter are bounded by the target (without one, by the network that never
        resizes); its other costs are those of the initial shape. Raises ValueError for a target below the smallest
        network."""
        share, target = float(self.config["target"]), self.target_macs
        least, first, most = (self._cost_of(alpha) for alpha in (-EXTREME, self.alpha, EXTREME))
        if target is not None and target < least["macs"]:
            raise ValueError(
                f"targets: {share:g} of {self.config['family']} is {target:.0f} macs, less than its smallest shape "
                f"needs; use at least {math.ceil(1000 * share * least['macs'] / target) / 1000:g}"
            )
        bound = most["macs"] if target is None else min(most["macs"], int(target))
        return (
            self._candidate(f"least-{_place(self.config)}", {**self.config, "target": 0.0}, least),
            self._candidate(key(self.config), self.config, first | {"macs": bound}),
        )

    def measured(self) -> tuple[Candidate, Candidate]:
        """The smallest network, and one with all of the target's multiply-accumulates (without a target the initial
        one)."""
        rule = self.rule
        least = rule.sizes([-EXTREME] * rule.count)
        return (
            self._of_sizes(f"least-{_place(self.config)}", {**self.config, "target": 0.0}, least),
            self._of_sizes(f"like-{key(self.config)}", self.config, _usual(rule, self.alpha, self.target_macs)),
        )

    def _candidate(self, name: str, config: Config, costs: dict[str, int]) -> Candidate:
        return Candidate(key=name, config=dict(config), input_size=self.size, cost=costs)

    def _cost_of(self, alpha: float) -> dict[str, int]:
        """The shape with one alpha for all adaptors."""
        rule = self.rule
        shape = Shape(rule.sizes([alpha] * rule.count), (0.5,) * rule.count)
        return cost_by_metric(shaped(rule.network, shape), self.size)

    def _of_sizes(self, name: str, config: Config, sizes: Sizes) -> Candidate:
        space = replace(self, config={**config, "shape": Shape(sizes, (0.5,) * self.rule.count).written()})
        return space.candidate(name, space.network)


def key(config: Config) -> str:
    """Network and costs for a configuration."""
    if config["mode"] == HUMAN:
        return f"{HUMAN}-{config['family']}"
    target = f"m{config['target']:g}" if config["target"] else "free"
    drawn = f"-{config['draw']}" if "draw" in config else ""
    return f"{_place(config)}-{target}{drawn}"


def _place(config: Config) -> str:
    side = f"-d{config['last_side']}" if "last_side" in config else ""
    return f"{config['family']}-{config['mode']}-a{config['adaptors']}{side}"


@lru_cache(maxsize=1024)
def _adapted(network: Architecture, count: int, placement: Placement) -> Architecture:
    return adapted(network, count, placement)


@lru_cache(maxsize=1024)
def _rule(network: Architecture, size: Size, *, in_all: bool, limit: int | None) -> Rule:
    return Rule(network, size, in_all=in_all, limit=limit)


@lru_cache(maxsize=1024)
def _usual(rule: Rule, alpha: float, macs: float | None) -> Sizes:
    """The largest equal alphas within a number of multiply-accumulates, or this alpha."""
    alphas = [alpha] * rule.count
    return rule.sizes(alphas) if macs is None else rule.fitted(alphas, lambda s: rule.macs(s) <= macs, grows=True).sizes
