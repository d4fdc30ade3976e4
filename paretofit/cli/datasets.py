"""The `paretofit datasets` commands."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from paretofit.api.schemas.datasets import Dataset
from paretofit.cli import fronts, references
from paretofit.cli.output import facts, print_json, say, short, state, stderr, stdout, table
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, client
from paretofit.client import bars
from paretofit.client.client import Client
from paretofit.client.datasets import reasons
from paretofit.client.errors import DatasetRejectedError, UsageError
from paretofit.core.formatting import count

app = typer.Typer(no_args_is_help=True, help="Add, list and show datasets, and the best networks for them.")
Reference = Annotated[str, typer.Argument(metavar="ID", help="Id, end of an id, name or `latest`.")]


@app.command()
def add(
    context: typer.Context,
    *,
    source: Annotated[
        str,
        typer.Argument(
            help="A zip or tar archive of class/name.png, optionally below train/, val/ and test/; the https:// or "
            "s3:// URL of one; or the name of a built-in dataset."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the dataset.", show_default="the source's name")] = None,
    subset: Annotated[
        int | None, typer.Option(help="Number of training images to draw from a built-in dataset.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the subset and of the splits.")] = 0,
    image_size: Annotated[int | None, typer.Option(help="Side length of training crops, in pixels.")] = None,
    licence: Annotated[str | None, typer.Option(help="License of the images, stated in model cards.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until validation ends.")] = True,
    as_json: AsJson = False,
) -> None:
    """Add a dataset from an archive (`photos.zip`), a URL (`https://...`, `s3://BUCKET/KEY`) or a built-in
    (`fashion_mnist`).

    An archive is uploaded; a URL is fetched by the service.
    """
    if source.startswith(("https://", "http://", "s3://")):
        archive, uploading = Path(PurePosixPath(urlsplit(source).path).name or "dataset"), False
        described: dict[str, Any] = {"kind": "s3" if source.startswith("s3://") else "url", "url": source}
    else:
        archive = Path(source).expanduser()
        uploading = archive.is_file()
        described = {"kind": "upload"} if uploading else {"kind": "builtin", "name": source, "subset": subset}
    if described["kind"] == "builtin" and archive.is_dir():
        raise UsageError(
            f"{source} is a folder; pack it with `tar -cf {archive.name}.tar -C {source} .` and add the archive"
        )
    if described["kind"] == "builtin" and (archive.suffix or "/" in source):
        raise UsageError(f"file not found: {source}; check the path, or give the name of a built-in dataset")
    if described["kind"] != "builtin" and subset is not None:
        raise UsageError("--subset applies only to built-in datasets; leave it out")
    spec: dict[str, Any] = {
        "name": name or (source if described["kind"] == "builtin" else archive.stem.removesuffix(".tar")),
        "source": described,
        "seed": seed,
        "image_size": image_size,
        "licence": licence,
    }
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT if uploading else 3.0) as service:
        dataset = service.datasets.create(spec)
        if uploading:
            upload(service, dataset, archive)
        if wait:
            with ExitStack() as stack:
                if stderr().is_terminal:
                    stack.enter_context(stderr().status("validating images ..."))
                try:
                    dataset = service.datasets.wait(dataset.id)
                except DatasetRejectedError as rejection:
                    if as_json:
                        print_json(rejection.dataset)
                    raise
        else:
            dataset = service.datasets.get(dataset.id)
    if as_json:
        print_json(dataset)
    else:
        _describe(dataset)


@app.command("list")
def list_(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List datasets, newest first."""
    with client(context) as service:
        listed = list(service.datasets.list())
    if as_json:
        print_json(listed)
        return
    rows = [
        (short(d.id), d.name, state(d.state), _images(d), _classes(d), f"{d.created_at.astimezone():%Y-%m-%d %H:%M}")
        for d in listed
    ]
    stdout().print(table(("id", "name", "state", "#images", "#classes", "added"), rows))


@app.command()
def show(
    context: typer.Context,
    *,
    dataset: Reference,
    as_json: AsJson = False,
) -> None:
    """Show a dataset and its validation report."""
    with client(context) as service:
        shown = service.datasets.get(references.dataset_id(service, dataset))
    if as_json:
        print_json(shown)
    else:
        _describe(shown)


@app.command()
def front(
    context: typer.Context,
    *,
    dataset: Reference,
    x: fronts.CostAxis = "macs",
    device: Annotated[
        str | None,
        typer.Option(
            help="Device of the latency; may be omitted if the searches have exactly one.", show_default=False
        ),
    ] = None,
    plot: fronts.Plot = None,
    as_json: AsJson = False,
) -> None:
    """Show the best known networks for a dataset: the joint Pareto front of all its searches."""
    with client(context) as service:
        shown = service.datasets.get(references.dataset_id(service, dataset))
        result = shown.front(x=x, device=device, dominated=plot is not None)
    if as_json:
        print_json(result)
    elif result.points:
        stdout().print(fronts.front_table(result))
        searches = len({point.search_id for point in result.points})
        noun = "search" if searches == 1 else "searches"
        stdout().print(f"{count(len(result.points), 'point')} from {searches} {noun}")
        best = references.point(result.points, "best")
        say(f"to download the most accurate one: paretofit download {short(best.search_id)} {short(best.id)}")
    else:
        say(
            f"the front has no points: no search of {shown.name} has a network with a checkpoint and {x} yet; "
            "`paretofit submit` starts a search"
        )
    if plot is not None:
        say(f"plotted to {fronts.picture(result, plot, title=f'{shown.name}: best known')}")


def upload(service: Client, dataset: Dataset, archive: Path) -> None:
    """Upload an archive, with a progress bar on a terminal."""
    with bars.transfer("uploading", archive.stat().st_size) as progress:
        service.datasets.upload(dataset.id, archive, progress)


def _describe(dataset: Dataset) -> None:
    console = stdout()
    report, profile = dataset.report or {}, dataset.profile or {}
    rows: list[tuple[str, object]] = [
        ("id", dataset.id),
        ("name", dataset.name),
        ("state", state(dataset.state)),
        ("source", ", ".join(f"{key} {value}" for key, value in dataset.source.items() if value is not None)),
    ]
    if dataset.error:
        rows += [("rejected", reason) for reason in reasons(dataset)]
    if profile:
        height, width = profile["image_size"]
        rows += [
            ("images", ", ".join(f"{split} {count}" for split, count in profile["images"].items())),
            ("image size", f"{height} x {width} px, {profile['channels']} channel(s)"),
            ("classes", f"{len(profile['classes'])}: {', '.join(profile['classes'][:20])}"),
        ]
    if corrupt := report.get("corrupt_images"):
        rows.append(("corrupt", f"{corrupt} files were skipped; --json lists the first"))
    for split, names in report.get("missing_classes", {}).items():
        rows.append(("missing", f"no images in the {split} split: {', '.join(names[:20])}"))
    if report.get("cross_split_duplicates"):
        rows.append(("duplicates", f"{report['cross_split_duplicates']} images appear in several splits"))
    if dataset.fingerprint:
        rows.append(("fingerprint", dataset.fingerprint))
    console.print(facts(rows))
    if dataset.state == "ready":
        say(f"next: set `dataset: {dataset.name}` in a specification and run `paretofit submit`")


def _images(dataset: Dataset) -> object:
    return sum(dataset.profile["images"].values()) if dataset.profile else "-"


def _classes(dataset: Dataset) -> object:
    return len(dataset.profile["classes"]) if dataset.profile else "-"
