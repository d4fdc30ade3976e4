"""The commands that show a front, select a point and download its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from paretofit.api.schemas.points import Cost, DatasetFront, DatasetPoint, Front, FrontPoint
from paretofit.cli import references
from paretofit.cli.output import accuracy, print_json, say, short, stdout, table, warn
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, SearchReference, client
from paretofit.cli.unmet import unmet
from paretofit.client.errors import UsageError
from paretofit.client.fronts import bounds
from paretofit.client.numbers import format_bytes, format_quantity, parse_quantity
from paretofit.client.plot import PlotPoint, draw_front
from paretofit.core.formatting import count, round_decimals


def _quantity(text: str) -> float:
    try:
        return parse_quantity(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


CostAxis = Annotated[Cost, typer.Option(help="Cost axis of the front.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Also plot the front to a file (png, svg, pdf).")]
_Device = Annotated[
    str | None,
    typer.Option(help="Device of the latency; may be omitted if the search has exactly one.", show_default=False),
]
_MaxMacs = Annotated[
    float | None, typer.Option(parser=_quantity, metavar="N", help="Maximum MACs, such as 5M, 300k or 1.2e6.")
]
_MaxParams = Annotated[float | None, typer.Option(parser=_quantity, metavar="N", help="Maximum number of parameters.")]
_MaxActivationBytes = Annotated[
    float | None, typer.Option(parser=_quantity, metavar="N", help="Maximum peak activation memory, in bytes.")
]


def front(
    context: typer.Context,
    *,
    search: SearchReference,
    x: CostAxis = "macs",
    device: _Device = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Show the Pareto front: the networks that no other one dominates in accuracy and cost."""
    with client(context) as service:
        detail = service.searches.get(references.search_id(service, search))
        result = service.searches.front(detail.id, x=x, device=device, dominated=plot is not None)
    if as_json:
        print_json(result)
    elif result.points:
        stdout().print(front_table(result))
        if result.hypervolume is not None:
            stdout().print(f"{count(len(result.points), 'point')}, hypervolume over MACs {result.hypervolume:.4f}")
        warn(detail)
    else:
        reason = "" if detail.stop_reason is None else f" ({detail.stop_reason})"
        yet = "" if detail.finished_at is not None else " yet"
        say(f"the front has no points{yet}; the search is {detail.state}{reason}")
        for constraint in unmet(detail):
            say(constraint)
    if plot is not None:
        say(f"plotted to {picture(result, plot, title=f'{detail.name}: {detail.method}')}")


def select(
    context: typer.Context,
    *,
    search: SearchReference,
    max_macs: _MaxMacs = None,
    max_params: _MaxParams = None,
    max_activation_bytes: _MaxActivationBytes = None,
    max_latency: Annotated[
        float | None, typer.Option(min=0, metavar="MS", help="Median latency at batch size 1, in milliseconds.")
    ] = None,
    device: _Device = None,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Top-1 accuracy on the selection split, 0 to 1.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Select the point to deploy: the most accurate one within a budget."""
    if device is not None and max_latency is None:
        raise UsageError("--device requires --max-latency; give both or neither")
    constraints = bounds(
        max_macs=max_macs,
        max_params=max_params,
        max_activation_bytes=max_activation_bytes,
        max_latency_ms=max_latency,
        device=device,
        min_accuracy=min_accuracy,
    )
    with client(context) as service:
        search_id = references.search_id(service, search)
        chosen = service.searches.select(search_id, constraints)
    if as_json:
        print_json(chosen)
    else:
        stdout().print(points_table([chosen]))
        say(f"to download it: paretofit download {short(search_id)} {short(chosen.id)}")


def download(
    context: typer.Context,
    *,
    search: SearchReference,
    point: Annotated[str, typer.Argument(metavar="POINT", help="Id, end of an id, key, `best` or `smallest`.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output file or folder.", show_default="./NAME-POINT.safetensors")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download the checkpoint of a point. Resumes an interrupted download and verifies the SHA-256."""
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT) as service:
        detail = service.searches.get(references.search_id(service, search))
        front = service.searches.front(detail.id, dominated=point not in references.ENDS)
        every = [*front.points, *front.baselines, *(front.dominated or ())]
        chosen = references.point(front.points if point in references.ENDS else every, point)
        default = Path(f"{_file_name(detail.name)}-{short(chosen.id)}.safetensors")
        path = chosen.download(default if out is None else out / default if out.is_dir() else out)
    if as_json:
        artifact = chosen.artifact
        sha256 = artifact.sha256 if artifact else None
        print_json({"path": str(path), "sha256": sha256, "point": chosen.model_dump(mode="json")})
    else:
        stdout().print(str(path), soft_wrap=True)
        say(f"to load it: python -c 'import paretofit; print(paretofit.load(\"{path}\"))'")


def front_table(front: Front | DatasetFront) -> Table:
    """A front as a table, cheapest first, with its baselines and the accuracy of the majority class."""
    made = points_table(front.points if isinstance(front, DatasetFront) else [*front.points, *front.baselines])
    if front.majority_class is not None:
        empty = [""] * (len(made.columns) - 5)
        shares = (accuracy(front.majority_selection_top1), accuracy(front.majority_top1))
        made.add_row("", Text(f"always {front.majority_class}"), *empty, *shares, "majority class")
    return made


def points_table(points: Sequence[FrontPoint]) -> Table:
    """Points as a table, with a latency column for each measured device, and the search of those of a joint front."""
    latencies = sorted({name for point in points for name in point.metrics if name.startswith("latency_ms:")})
    rows = [
        (
            short(point.id),
            describe(point),
            *((point.search_name, point.method) if isinstance(point, DatasetPoint) else ()),
            _cost(point, "macs"),
            _cost(point, "params"),
            *(_milliseconds(point, name) for name in latencies),
            "-" if point.artifact is None else format_bytes(point.artifact.size),
            accuracy(point.metrics.get("selection_top1")),
            accuracy(point.metrics.get("top1")),
            _remark(point),
        )
        for point in points
    ]
    columns = [f"#ms, {name.partition(':')[2]}" for name in latencies]
    found_by = ("search", "method") if any(isinstance(point, DatasetPoint) for point in points) else ()
    return table(
        ("point", "network", *found_by, "#MACs", "#params", *columns, "#file", "#selection", "#top-1", ""), rows
    )


def describe(point: FrontPoint) -> str:
    """The values that the method varied, as a short text."""
    return ", ".join(f"{name} {_value(value)}" for name, value in point.config.items())


def picture(front: Front | DatasetFront, path: Path, *, title: str) -> Path:
    """Plot a front. Raises UsageError without matplotlib, for an unknown file suffix or an empty front."""
    known = [point for point in front.dominated or () if None not in map(point.metrics.get, (_name(front), front.y))]
    dominated = [point for point in known if not _violates(point)]
    infeasible = [point for point in known if _violates(point)]
    try:
        return draw_front(
            path,
            *([_plotted(point, _name(front)) for point in group] for group in (front.points, dominated, infeasible)),
            title=title,
            cost=_name(front),
        )
    except ImportError as error:
        raise UsageError("plots need matplotlib; install it with `pip install 'paretofit[worker]'`") from error
    except ValueError as error:
        raise UsageError(f"cannot plot to {path}: {error}") from error


def _remark(point: FrontPoint) -> str:
    if point.role == "baseline":
        return "baseline"
    if isinstance(point, DatasetPoint) and not point.feasible:
        return "violates a constraint of its search"
    return "infeasible" if _violates(point) else ""


def _violates(point: FrontPoint) -> bool:
    """Whether a point is off the front because of a constraint. Joint fronts ignore the constraints of the searches."""
    return not point.feasible and not isinstance(point, DatasetPoint)


def _name(front: Front | DatasetFront) -> str:
    """The name of the front's cost in the metrics of a point."""
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
