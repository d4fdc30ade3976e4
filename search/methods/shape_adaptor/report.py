"""History of a learned shape, as data and as a chart of each adaptor's side over the training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from paretofit.models.architecture import Architecture
from paretofit.models.families.shapes import adaptors
from paretofit.search.contracts.point import Point

_INK: Final = "#1f2933"


def describe(point: Point, history: Sequence[dict[str, Any]], steps: int) -> dict[str, Any]:
    """The network's adaptors, and `history`: sizes, blends and multiply-accumulates from each step on at which a size
    changed, of `steps` in total."""
    network = Architecture.from_json(point.architecture)
    return {
        "point": point.key,
        "config": point.config,
        "input_size": point.input_size,
        "metrics": point.metrics,
        "adaptors": [
            {"block": i, "size": adaptor.size, "blend": adaptor.blend} for i, adaptor in adaptors(network).items()
        ],
        "steps": steps,
        "history": list(history),
    }


def write(folder: Path, point: Point, history: Sequence[dict[str, Any]], steps: int) -> tuple[Path, Path]:
    """`KEY.shape.json` and `KEY.shape.svg`."""
    data = describe(point, history, steps)
    described, drawn = folder / f"{point.key}.shape.json", folder / f"{point.key}.shape.svg"
    described.write_text(json.dumps(data, indent=1))
    draw(drawn, data)
    return described, drawn


def draw(path: Path, data: dict[str, Any]) -> None:
    """Chart of each adaptor's height over the steps; darker lines are nearer to the input. A dot marks the frozen
    height: that of the last change, unless the shape was fixed at the end or reduced afterwards."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    history = data["history"]
    steps = [entry["step"] for entry in history] + [data["steps"]]
    shades = mpl.colormaps["viridis"]
    count = len(data["adaptors"])
    for i, adaptor in enumerate(data["adaptors"]):
        heights = [entry["sizes"][i][0] for entry in history]
        shade = shades(0.85 * i / max(1, count - 1))
        axes.step(
            steps,
            [*heights, heights[-1]],
            where="post",
            color=shade,
            # If two have the same height, the wider line is visible on both sides of the other.
            linewidth=1.5 + 2.5 * (count - 1 - i) / count,
            label=f"{i + 1}: {'x'.join(map(str, adaptor['size']))}",
        )
        axes.plot(steps[-1], adaptor["size"][0], "o", color=shade, markersize=5, clip_on=False, zorder=3)
    side = data["input_size"][0]
    axes.axhline(side, color=_INK, linewidth=0.8, linestyle=":")
    axes.annotate(
        f"input, {side}",
        (0, side),
        (4, 2),
        textcoords="offset points",
        fontsize=8,
        color=_INK,
        verticalalignment="bottom",
    )
    axes.set_ylim(0, 1.1 * side)
    axes.set_xlim(0, max(1, data["steps"]))
    axes.set_xlabel("steps", color=_INK)
    axes.set_ylabel("height of the map, pixels", color=_INK)
    axes.set_title(data["point"], loc="left", fontsize=11, fontweight="bold", color=_INK)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1, 1),
        frameon=False,
        title="adaptor: frozen size",
        fontsize=8,
        labelcolor=_INK,
    )
    # Deterministic: the same data gives the same file.
    with mpl.rc_context({"svg.hashsalt": data["point"]}):
        figure.savefig(path, metadata={"Date": None})
