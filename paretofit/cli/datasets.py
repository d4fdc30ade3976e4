"""Datasets on the command line."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from paretofit.api.schemas.datasets import Dataset
from paretofit.cli import references
from paretofit.cli.output import facts, print_json, say, short, state, stderr, stdout, table
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, client
from paretofit.client import bars
from paretofit.client.client import Client
from paretofit.client.datasets import reasons
from paretofit.client.errors import DatasetRejectedError, UsageError

app = typer.Typer(no_args_is_help=True, help="Datasets: add, list, show.")


@app.command()
def add(
    context: typer.Context,
    *,
    source: Annotated[
        str,
        typer.Argument(
            help="An archive (zip or tar) of class/name.png, optionally below train/, val/ and test/; its https:// or "
            "s3:// URL; or a built-in's name."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="What to call it.", show_default="the source's name")] = None,
    subset: Annotated[int | None, typer.Option(help="Training images to draw from a built-in.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw and of the splits.")] = 0,
    image_size: Annotated[int | None, typer.Option(help="Side that training crops to, pixels.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the images; model cards say it.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is validated.")] = True,
    as_json: AsJson = False,
) -> None:
    """Add a dataset: upload an archive of images (`photos.zip`), have the service fetch it (`https://...`,
    `s3://BUCKET/KEY`), or draw from a built-in one (`fashion_mnist`)."""
    if source.startswith(("https://", "http://", "s3://")):
        archive, uploading = Path(PurePosixPath(urlsplit(source).path).name or "dataset"), False
        described: dict[str, Any] = {"kind": "s3" if source.startswith("s3://") else "url", "url": source}
    else:
        archive = Path(source).expanduser()
        uploading = archive.is_file()
        described = {"kind": "upload"} if uploading else {"kind": "builtin", "name": source, "subset": subset}
    if described["kind"] == "builtin" and archive.is_dir():
        raise UsageError(
            f"{source} is a folder: pack it (`tar -cf {archive.name}.tar -C {source} .`) and add the archive"
        )
    if described["kind"] == "builtin" and (archive.suffix or "/" in source):
        raise UsageError(f"there is no file {source}")
    if described["kind"] != "builtin" and subset is not None:
        raise UsageError("--subset draws from built-in datasets; an archive is used whole")
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
                    stack.enter_context(stderr().status("validating ..."))
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
    """The datasets, newest first."""
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
    dataset: Annotated[str, typer.Argument(metavar="ID", help="Id, its end, name or `latest`.")],
    as_json: AsJson = False,
) -> None:
    """A dataset and what its validation found."""
    with client(context) as service:
        found = service.datasets.get(references.dataset_id(service, dataset))
    if as_json:
        print_json(found)
    else:
        _describe(found)


def upload(service: Client, dataset: Dataset, archive: Path) -> None:
    """Send an archive, with a bar where there is a terminal."""
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
            ("trains at", f"{height} x {width} px, {profile['channels']} channel(s)"),
            ("classes", f"{len(profile['classes'])}: {', '.join(profile['classes'][:20])}"),
        ]
    if corrupt := report.get("corrupt_images"):
        rows.append(("corrupt", f"{corrupt} files were left out; --json names the first"))
    for split, names in report.get("missing_classes", {}).items():
        rows.append(("missing", f"{', '.join(names[:20])}: no images in the {split} split"))
    if report.get("cross_split_duplicates"):
        rows.append(("duplicates", f"{report['cross_split_duplicates']} across splits"))
    if dataset.fingerprint:
        rows.append(("fingerprint", dataset.fingerprint))
    console.print(facts(rows))
    if dataset.state == "ready":
        say(f"search it: `dataset: {dataset.name}` in a specification for `paretofit submit`")


def _images(dataset: Dataset) -> object:
    return sum(dataset.profile["images"].values()) if dataset.profile else "-"


def _classes(dataset: Dataset) -> object:
    return len(dataset.profile["classes"]) if dataset.profile else "-"
