"""Widths of a configuration: one for the whole network, or one for each of its stages. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paretofit.models.architecture import Architecture
from paretofit.models.families.scaling import Width
from paretofit.search.methods.method import Config


def width_of(config: Config) -> Width:
    """The item `width`, or the items `width_1`, `width_2`, ... as many as there are."""
    if "width" in config:
        return float(config["width"])
    return tuple(float(value) for name, value in config.items() if name.startswith("width_"))


def configs(
    architecture: Callable[[Width], Architecture], grid: Sequence[float], stages: int | None
) -> list[dict[str, float]]:
    """Configurations of the networks whose stages are all equally wide, each network once.

    Where several widths of `grid` make the same network, or with `stages` the same stage, it has the largest. So every
    combination of the widths that a stage has here is another network.
    """
    widest = {architecture(width): width for width in grid}
    if stages is None:
        return [{"width": width} for width in widest.values()]

    def of_stage(stage: int) -> dict[float, float]:
        def alone(width: float) -> Architecture:
            return architecture(tuple(width if i == stage else grid[-1] for i in range(stages)))

        largest = {alone(width): width for width in grid}
        return {width: largest[alone(width)] for width in grid}

    canonical = [of_stage(stage) for stage in range(stages)]
    return [{f"width_{i}": of[width] for i, of in enumerate(canonical, start=1)} for width in widest.values()]
