"""Distribution of a network's channels over the scales, as data and as a chart like the authors'."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from paretofit.models.architecture import Architecture
from paretofit.models.families.structures import SCALES
from paretofit.models.kinds.aggregation import aggregations
from paretofit.search.contracts.point import Point

COLORS: Final = ("#1b6ca8", "#5aa9a3", "#e0a030", "#d1495b")
_INK: Final = "#1f2933"


def describe(point: Point, planes: Sequence[int]) -> dict[str, Any]:
    """A row for each scale aggregation: the side of its map in pixels, the planes of a ResNet there, and the channels
    of each of `scales`. `structure` is the input format of `python -m paretofit.models.cost`."""
    architecture = Architecture.from_json(point.architecture)
    sizes = {layer.name: layer.output.size for layer in architecture.layers(point.input_size)}
    rows = []
    for (name, block), width in zip(aggregations(architecture).items(), planes, strict=True):
        channels = dict(zip(block.scales, block.widths, strict=True))
        rows.append(
            {
                "name": name,
                "size": sizes[f"{name}.branches.0.norm"],
                "planes": width,
                "channels": [channels.get(scale, 0) for scale in SCALES],
            }
        )
    return {
        "point": point.key,
        "config": point.config,
        "scales": list(SCALES),
        "metrics": point.metrics,
        "aggregations": rows,
        "structure": [row["channels"] for row in rows],
    }


def write(folder: Path, point: Point, planes: Sequence[int]) -> tuple[Path, Path]:
    """`KEY.scales.json` and `KEY.scales.svg`."""
    data = describe(point, planes)
    described, drawn = folder / f"{point.key}.scales.json", folder / f"{point.key}.scales.svg"
    described.write_text(json.dumps(data, indent=1))
    draw(drawn, data)
    return described, drawn


def draw(path: Path, data: dict[str, Any]) -> None:
    """Chart of each scale aggregation's channels by scale, one column each, labeled with the side of its map."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    rows = data["aggregations"]
    figure = Figure(figsize=(max(6.0, 0.32 * len(rows) + 2), 4.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    floor = [0.0] * len(rows)
    for at, scale in enumerate(data["scales"]):
        shares = [row["channels"][at] / sum(row["channels"]) for row in rows]
        axes.bar(range(len(rows)), shares, bottom=floor, color=COLORS[at], width=0.86, label=f"1/{scale}")
        floor = [low + share for low, share in zip(floor, shares, strict=True)]
    axes.set_ylim(0, 1)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    firsts = [i for i, row in enumerate(rows) if i == 0 or rows[i - 1]["size"] != row["size"]]
    axes.set_xticks(firsts, ["x".join(map(str, rows[i]["size"])) for i in firsts], ha="left")
    for i in firsts[1:]:
        axes.axvline(i - 0.5, color=_INK, linewidth=0.8)
    axes.set_xlabel("scale aggregations in order, by the size of their maps", color=_INK)
    axes.set_ylabel("channels", color=_INK)
    axes.set_title(data["point"], loc="left", fontsize=11, fontweight="bold", color=_INK)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="scale", fontsize=8, labelcolor=_INK)
    # Deterministic: the same data gives the same file.
    with mpl.rc_context({"svg.hashsalt": data["point"]}):
        figure.savefig(path, metadata={"Date": None})
