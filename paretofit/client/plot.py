"""Plots a front: accuracy over a cost on a logarithmic axis. Requires matplotlib (`paretofit[worker]`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paretofit.client.numbers import format_tick

_FRONT, _REPORT, _FADED, _INFEASIBLE, _INK = "#1b6ca8", "#d1495b", "#9aa5b1", "#c08552", "#1f2933"
_COSTS = {
    "macs": "multiply-accumulates",
    "params": "parameters",
    "peak_activation_bytes": "peak activations, bytes",
    "latency_ms": "milliseconds",
}


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """A network in the plot: `accuracy` is that on the selection split, `report` that on the report split."""

    cost: float
    accuracy: float
    report: float | None = None
    label: str = ""


def draw_front(
    path: Path,
    front: Sequence[PlotPoint],
    dominated: Sequence[PlotPoint] = (),
    infeasible: Sequence[PlotPoint] = (),
    *,
    title: str,
    cost: str = "macs",
) -> Path:
    """Plot a front to `path` (PNG, SVG or PDF by suffix). Dominated and infeasible points are faded.

    Raises ImportError without matplotlib and ValueError for an unknown suffix or an empty front.
    """
    if not front:
        raise ValueError("the front is empty; wait until the search has found a point")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

    front = sorted(front, key=lambda point: point.cost)
    figure = Figure(figsize=(9, 5.6), dpi=144, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()

    for name, others, color, marker in (
        ("dominated", dominated, _FADED, "o"),
        ("infeasible", infeasible, _INFEASIBLE, "s"),
    ):
        if others:
            axes.scatter(
                [point.cost for point in others],
                [point.accuracy for point in others],
                s=20,
                color=color,
                marker=marker,
                alpha=0.55,
                linewidths=0,
                label=f"{name} ({len(others)})",
                zorder=1,
            )
    costs = [point.cost for point in front]
    accuracies = [point.accuracy for point in front]
    axes.step(costs, accuracies, where="post", color=_FRONT, linewidth=1.4, alpha=0.5, zorder=2)
    axes.scatter(
        costs,
        accuracies,
        s=46,
        color=_FRONT,
        edgecolors="white",
        linewidths=0.9,
        label=f"Pareto front ({len(front)}), selection split",
        zorder=4,
    )
    reported = [(point.cost, point.report) for point in front if point.report is not None]
    if reported:
        axes.scatter(
            [cost for cost, _ in reported],
            [accuracy for _, accuracy in reported],
            s=30,
            facecolors="none",
            edgecolors=_REPORT,
            linewidths=1.2,
            marker="D",
            label="same networks, report split",
            zorder=3,
        )

    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_tick(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0 if _spread(accuracies) > 0.04 else 1))
    name, _, device = cost.partition(":")
    axes.set_xlabel(f"{_COSTS.get(name, name)}{device and f' on {device}'} (log scale)", color=_INK)
    axes.set_ylabel("top-1 accuracy", color=_INK)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=_INK, pad=12)
    axes.grid(visible=True, which="major", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FADED)
    axes.tick_params(colors=_INK, which="both", labelsize=9)
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=_INK)

    for point in _spaced(front):
        # Keep the leftmost label inside the plot.
        beside, aligned = (5, "left") if point is front[0] else (-5, "right")
        axes.annotate(
            point.label,
            (point.cost, point.accuracy),
            xytext=(beside, 8),
            textcoords="offset points",
            ha=aligned,
            fontsize=8,
            color=_INK,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _spaced(front: Sequence[PlotPoint], gap: float = 0.09) -> list[PlotPoint]:
    """The points to label, cheapest first: both ends, and points at least `gap` apart (fraction of the extent)."""
    width = math.log(front[-1].cost / front[0].cost) or 1.0
    height = _spread([point.accuracy for point in front]) or 1.0
    chosen = [front[0]]
    last = front[-1]

    def apart(one: PlotPoint, other: PlotPoint) -> bool:
        return math.hypot(math.log(one.cost / other.cost) / width, (one.accuracy - other.accuracy) / height) >= gap

    for point in front[1:-1]:
        if apart(point, chosen[-1]) and apart(point, last):
            chosen.append(point)
    return [*chosen, last] if len(front) > 1 else chosen
