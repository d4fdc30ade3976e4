"""Fronts on the command line: read one, choose from it, download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from paretofit.api.schemas.points import Cost, Front, FrontPoint
from paretofit.cli import references
from paretofit.cli.output import accuracy, print_json, say, short, stdout, table, warn
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, SearchReference, client
from paretofit.cli.unmet import unmet
from paretofit.client.errors import UsageError
from paretofit.client.fronts import bounds
from paretofit.client.numbers import format_bytes, format_quantity, parse_quantity
from paretofit.client.plot import PlotPoint, draw_front
from paretofit.core.formatting import round_decimals


def _quantity(text: str) -> float:
    try:
        return parse_quantity(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


_Device = Annotated[
    str | None,
    typer.Option(help="Of latencies; unset: the search's, if it has one only.", show_default=False),
]
_Quantity = Annotated[float | None, typer.Option(parser=_quantity, metavar="N", help="Such as 5M, 300k or 1.2e6.")]


def front(
    context: typer.Context,
    *,
    search: SearchReference,
    x: Annotated[Cost, typer.Option(help="The cost of the front.")] = "macs",
    device: _Device = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it (png, svg, pdf).")] = None,
    as_json: AsJson = False,
) -> None:
    """The Pareto front: the most accurate network for every cost."""
    with client(context) as service:
        found = service.searches.get(references.search_id(service, search))
        result = service.searches.front(found.id, x=x, device=device, dominated=plot is not None)
    if as_json:
        print_json(result)
    elif result.points:
        stdout().print(front_table(result))
        if result.hypervolume is not None:
            stdout().print(f"{len(result.points)} points, hypervolume over MACs {result.hypervolume:.4f}")
        warn(found)
    else:
        ended = "" if found.stop_reason is None else f", by {found.stop_reason}"
        over = found.finished_at is not None
        say(f"the front has no points{'' if over else ' yet'}: the search is {found.state}{ended}")
        for bound in unmet(found):
            say(bound)
    if plot is not None:
        say(f"drawn in {picture(result, plot, title=f'{found.name}: {found.method}')}")


def select(
    context: typer.Context,
    *,
    search: SearchReference,
    max_macs: _Quantity = None,
    max_params: _Quantity = None,
    max_activation_bytes: _Quantity = None,
    max_latency: Annotated[
        float | None, typer.Option(min=0, metavar="MS", help="Median, milliseconds, batch 1.")
    ] = None,
    device: _Device = None,
    min_accuracy: Annotated[float | None, typer.Option(min=0, max=1, help="On the selection split, 0 to 1.")] = None,
    as_json: AsJson = False,
) -> None:
    """The point to deploy: the most accurate one under a budget."""
    if device is not None and max_latency is None:
        raise UsageError("--device is that of --max-latency: give both, or neither")
    wanted = bounds(
        max_macs=max_macs,
        max_params=max_params,
        max_activation_bytes=max_activation_bytes,
        max_latency_ms=max_latency,
        device=device,
        min_accuracy=min_accuracy,
    )
    with client(context) as service:
        found = references.search_id(service, search)
        chosen = service.searches.select(found, wanted)
    if as_json:
        print_json(chosen)
    else:
        stdout().print(points_table([chosen]))
        say(f"get it: paretofit download {short(found)} {short(chosen.id)}")


def download(
    context: typer.Context,
    *,
    search: SearchReference,
    point: Annotated[str, typer.Argument(metavar="POINT", help="Id, its end, key, `best` or `smallest`.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File or folder.", show_default="./NAME-POINT.safetensors")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download a point's checkpoint; an interrupted download goes on, and the digest is checked."""
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT) as service:
        found = service.searches.get(references.search_id(service, search))
        front = service.searches.front(found.id, dominated=point not in references.ENDS)
        every = [*front.points, *front.baselines, *(front.dominated or ())]
        chosen = references.point(front.points if point in references.ENDS else every, point)
        default = Path(f"{_file_name(found.name)}-{short(chosen.id)}.safetensors")
        path = chosen.download(default if out is None else out / default if out.is_dir() else out)
    if as_json:
        artifact = chosen.artifact
        sha256 = artifact.sha256 if artifact else None
        print_json({"path": str(path), "sha256": sha256, "point": chosen.model_dump(mode="json")})
    else:
        stdout().print(str(path), soft_wrap=True)
        say(f"load it: python -c 'import paretofit; print(paretofit.load(\"{path}\"))'")


def front_table(front: Front) -> Table:
    """A front as a table, cheapest first, with its baselines and the accuracies of the majority class."""
    made = points_table([*front.points, *front.baselines])
    if front.majority_class is not None:
        empty = [""] * (len(made.columns) - 5)
        shares = (accuracy(front.majority_selection_top1), accuracy(front.majority_top1))
        made.add_row("", Text(f"always {front.majority_class}"), *empty, *shares, "majority class")
    return made


def points_table(points: Sequence[FrontPoint]) -> Table:
    """Points as a table, with a column for each device that one was measured on."""
    latencies = sorted({name for point in points for name in point.metrics if name.startswith("latency_ms:")})
    rows = [
        (
            short(point.id),
            describe(point),
            _cost(point, "macs"),
            _cost(point, "params"),
            *(_milliseconds(point, name) for name in latencies),
            "-" if point.artifact is None else format_bytes(point.artifact.size),
            accuracy(point.metrics.get("selection_top1")),
            accuracy(point.metrics.get("top1")),
            "baseline" if point.role == "baseline" else "" if point.feasible else "infeasible",
        )
        for point in points
    ]
    columns = [f"#ms, {name.partition(':')[2]}" for name in latencies]
    return table(("point", "network", "#MACs", "#params", *columns, "#file", "#selection", "#top-1", ""), rows)


def describe(point: FrontPoint) -> str:
    """What the method varied, in short."""
    return ", ".join(f"{name} {_value(value)}" for name, value in point.config.items())


def picture(front: Front, path: Path, *, title: str) -> Path:
    """Draw a front. Raises UsageError without matplotlib, for an unknown kind of file or an empty front."""
    known = [point for point in front.dominated or () if None not in map(point.metrics.get, (_name(front), front.y))]
    dominated = [point for point in known if point.feasible]
    infeasible = [point for point in known if not point.feasible]
    try:
        return draw_front(
            path,
            *([_plotted(point, _name(front)) for point in group] for group in (front.points, dominated, infeasible)),
            title=title,
            cost=_name(front),
        )
    except ImportError as error:
        raise UsageError("pictures need matplotlib: pip install 'paretofit[worker]'") from error
    except ValueError as error:
        raise UsageError(f"cannot draw {path}: {error}") from error


def _name(front: Front) -> str:
    """What points call the front's cost."""
    return front.x if front.device is None else f"{front.x}:{front.device}"


def _plotted(point: FrontPoint, cost: str) -> PlotPoint:
    return PlotPoint(
        cost=point.metrics[cost] or 0.0,
        accuracy=point.metrics["selection_top1"] or 0.0,
        report=point.metrics.get("top1"),
        label=" ".join(_SHORT.get(name, name + " {}").format(_value(value)) for name, value in point.config.items()),
    )


_SHORT = {"width": "w {}", "resolution": "{} px"}


def _cost(point: FrontPoint, metric: str) -> str:
    value = point.metrics.get(metric)
    return "-" if value is None else format_quantity(value)


def _milliseconds(point: FrontPoint, name: str) -> str:
    value = point.metrics.get(name)
    return "-" if value is None else f"{value:.3g}"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else round_decimals(str(value))


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".-") or "network"
