"""`paretofit demo`: a complete run on real images, from a fresh service to a downloaded checkpoint."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from paretofit.api.schemas.points import Front
from paretofit.cli import embedded
from paretofit.cli.fronts import front_table, picture
from paretofit.cli.output import error_text, say, stderr, warn
from paretofit.cli.references import point as find_point
from paretofit.cli.service import require_server
from paretofit.cli.watch import show_progress
from paretofit.client.client import Client
from paretofit.client.errors import ParetofitError
from paretofit.client.numbers import format_seconds
from paretofit.client.search import SearchDetail

METHOD: Final = "mutualnet"
SUBSET: Final = 12_000
SEED: Final = 0
_KEPT: Final = ("PARETOFIT_DEVICES", "PARETOFIT_LOG_LEVEL")


class DemoError(ParetofitError):
    """The demo failed."""


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Output folder for the plot and the checkpoint.")] = Path(
        "demo"
    ),
) -> None:
    """Run a complete example: start a service, search on 12,000 real images, plot the front, download the best network.

    Takes about three minutes on two cores. The last line on stdout is a JSON summary.
    """
    require_server()
    began = time.monotonic()
    configured = os.environ.get("PARETOFIT_HOME")
    home = (Path(configured).expanduser() / "demo" if configured else out / "home").resolve()
    say(f"starting the service; its data and logs are in {home}")
    with embedded.service(home, embedded.private_environment(_KEPT)) as url, Client(url) as service:
        say(f"the service is at {url} ({format_seconds(time.monotonic() - began)})")
        search = _search(service)
        front = service.searches.front(search.id, dominated=True)
        best = find_point(front.points, "best")
        checkpoint = best.download(out / "best.safetensors")
        drawn = picture(front, out / "front.png", title=f"{METHOD} on fashion_mnist, {SUBSET:,} images")
    stderr().print(front_table(front))
    warn(search)
    seconds = time.monotonic() - began
    say(
        f"""
Finished in {format_seconds(seconds)}. Plot: {drawn}. Checkpoint: {checkpoint} (SHA-256 verified).
Next steps:
  python -m paretofit.search evaluate {checkpoint} --dataset fashion_mnist     evaluate it without the service
  python -c 'import paretofit; print(paretofit.load("{checkpoint}"))'    load it as a torch module
  paretofit up --home {home}     start the service again; it still has this search
"""
    )
    sys.stdout.write(json.dumps(_summary(search, front, checkpoint, drawn)) + "\n")


def _search(service: Client) -> SearchDetail:
    """Ingest the images and run the search. Raises DemoError with the end of the trials' logs if it fails."""
    source = {"kind": "builtin", "name": "fashion_mnist", "subset": SUBSET}
    dataset = service.datasets.create({"name": "fashion_mnist", "source": source, "seed": SEED})
    say(f"preparing {SUBSET:,} images of Fashion-MNIST")
    service.datasets.wait(dataset.id)
    presets = {method.kind: method.presets for method in service.methods()}
    spec = {
        "name": "demo",
        "dataset_id": dataset.id,
        "method": {"kind": METHOD, **presets[METHOD]["demo"]},
        "seed": SEED,
    }
    submitted = service.searches.create(spec)
    say(f"searching: {submitted.id}")
    search = show_progress(service, submitted.id, stderr())
    if search.state != "succeeded":
        raise DemoError(_failure(service, search))
    return search


def _failure(service: Client, search: SearchDetail) -> str:
    lines = [f"search {search.state}: {(search.error or {}).get('detail', 'no reason was recorded')}"]
    for trial in service.searches.trials(search.id):
        if trial.error:
            lines.append(f"trial {trial.number} {trial.state}: {error_text(trial.error) or trial.error}")
            lines += [f"  {line.line}" for line in list(service.trials.logs(trial.id))[-embedded.LOG_LINES :]]
    return "\n".join(lines)


def _summary(search: SearchDetail, front: Front, checkpoint: Path, drawn: Path) -> dict[str, Any]:
    """The JSON summary. `best_top1` is the report accuracy of the point that is best on the selection split; the report
    split never selects a point."""
    best = find_point(front.points, "best")
    macs = [int(point.metrics["macs"] or 0) for point in front.points]
    return {
        "search_id": search.id,
        "state": search.state,
        "points": len(front.points),
        "macs_min": macs[0],
        "macs_max": macs[-1],
        "best_top1": best.metrics.get("top1"),
        "hypervolume": front.hypervolume,
        "checkpoint": str(checkpoint),
        "sha256": best.artifact.sha256 if best.artifact else None,
        "picture": str(drawn),
    }
