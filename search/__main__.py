"""Searches and evaluations without a service.

`python -m paretofit.search run SPEC.yaml --out DIR` searches; interrupted by Ctrl-C it keeps a checkpoint, and the same
command goes on. With `--ranks N`, or started by torchrun, it trains on N processes.

`python -m paretofit.search evaluate CHECKPOINT --dataset fashion_mnist|DIR` measures a checkpoint as it was measured.

`python -m paretofit.search weights NAME_OR_FILE --out FILE` makes a file of trained weights that a search's method can
start from.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.console import Console
from rich.table import Table

from paretofit.core.cpus import cores
from paretofit.core.settings import get_settings
from paretofit.models.pretrained.sources import SOURCES
from paretofit.search import registry, trials
from paretofit.search.allocator import keep_freed_memory
from paretofit.search.contracts import failures
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.inputs import CommandError, evaluated_dataset, local_dataset, read_spec, resolve
from paretofit.search.local import Front, Launch, LocalSearch

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""
DIFFERS: Final = 3
"""Exit code of `evaluate` when the accuracy is not the reported one."""

_ERR = Console(stderr=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 1 failed, 2 wrong arguments, `DIFFERS`, `INTERRUPTED`."""
    parser = argparse.ArgumentParser(
        prog="python -m paretofit.search", description="Search and evaluate without a service."
    )
    commands = parser.add_subparsers(required=True)

    weights = commands.add_parser("weights", help="make a weights file to start from, without a service")
    weights.add_argument(
        "weights", metavar="NAME_OR_FILE", help=f"a named source ({', '.join(SOURCES)}) or a file of weights"
    )
    weights.add_argument("--out", type=Path, required=True, metavar="FILE", help="the weights file (.safetensors)")
    weights.add_argument(
        "--source", metavar="NAME", help="the named source whose published file it is, where one file makes several"
    )
    weights.add_argument("--licence", help="of the file's weights")
    weights.add_argument(
        "--allow-non-commercial",
        action="store_true",
        help="accept weights for non-commercial use only: your use is permitted",
    )
    for statistic in ("mean", "std"):
        weights.add_argument(
            f"--{statistic}", type=_numbers, metavar="R,G,B", help="that the file's network takes, of values in 0..1"
        )
    weights.set_defaults(command=_weights)

    run = commands.add_parser("run", help="run a search in this process")
    run.add_argument("spec", type=Path, metavar="SPEC.yaml", help="a search, with `dataset` in place of `dataset_id`")
    run.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the search; goes on if it has one"
    )
    run.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    run.add_argument(
        "--ranks",
        type=int,
        default=1,
        metavar="N",
        help="train on N processes of this machine, started by torchrun: with --device cuda each on its own GPU",
    )
    run.add_argument("--json", action="store_true", help="print the front as one JSON line")
    run.set_defaults(command=_run)

    evaluate = commands.add_parser("evaluate", help="measure a checkpoint again, as its record says it was measured")
    evaluate.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    evaluate.add_argument(
        "--dataset", required=True, metavar="fashion_mnist|DIR", help="built-in, or a dataset's folder"
    )
    evaluate.add_argument("--split", choices=("report", "selection", "train"), default="report")
    evaluate.add_argument("--json", action="store_true", help="print one JSON line: top1, reported, equal, images")
    evaluate.set_defaults(command=_evaluate)

    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(words)
    ranks = 1 if "WORLD_SIZE" in os.environ else getattr(options, "ranks", 1)
    # Before torch is imported. Threads of an operation wait for each other by spinning: all cores only on an idle
    # machine.
    threads = cores() // ranks if ranks > 1 else cores() - 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))
    try:
        registry.setup()
        if ranks != 1:
            _torchrun(options, words)
        code: int = options.command(options)
    except (ValueError, OSError) as error:
        return _failed(error)
    return code


def _failed(error: Exception) -> int:
    _ERR.print(f"search: {error}", style="red", markup=False, soft_wrap=True)
    return 1


def _torchrun(options: argparse.Namespace, words: Sequence[str]) -> NoReturn:
    """Go on as torchrun, whose processes come here again, with what the user gave checked and the dataset there."""
    ranks, device = options.ranks, options.device
    if ranks < 1:
        raise CommandError(f"--ranks: must be 1 or more, not {ranks}")
    if device not in ("cpu", "cuda"):
        raise CommandError(f"--device: {ranks} ranks have a device each: give cpu or cuda, not {device}")
    if device == "cuda":
        from torch.cuda import device_count

        if ranks > device_count():
            raise CommandError(f"--ranks: {ranks} processes for {device_count()} GPUs: use at most as many as those")
    _prepared(options)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    os.execv(sys.executable, [*command, "-m", "paretofit.search", *words])  # noqa: S606 - no shell is what is wanted


def _require_device(device: str) -> None:
    """Raises CommandError for a device that torch has not here."""
    import torch

    kind, _, number = device.partition(":")
    count = torch.cuda.device_count()
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise CommandError(f"--device: must be cpu, cuda or cuda:N, not {device}")
    if kind == "cuda" and int(number or 0) >= count:
        raise CommandError(
            f"--device: {device} is not there: torch sees {count} GPUs; use cpu" + (" or cuda" if count else "")
        )


def _run(options: argparse.Namespace) -> int:
    keep_freed_memory()
    _require_device(options.device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return _search(options, options.device, launch=None)
    from paretofit.search.training import distributed

    with distributed.joined(options.device) as (ranks, device):
        if ranks.rank > 0:
            distributed.follow(trials.run, device)
            return 0
        try:
            code = _search(options, device, launch=distributed.lead)
        except (ValueError, OSError) as error:
            # Said before the group ends, with which torchrun ends this process too.
            return _failed(error)
        distributed.dismiss()
        return code


def _prepared(options: argparse.Namespace) -> tuple[ResolvedSpec, Path]:
    """What is to be searched, on which dataset."""
    body = read_spec(options.spec)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    dataset = local_dataset(body.pop("dataset", None), options.spec.parent, out / "dataset")
    return resolve(body, dataset, options.spec), dataset


def _search(options: argparse.Namespace, device: str, launch: Launch | None) -> int:
    spec, dataset = _prepared(options)
    out: Path = options.out
    search = LocalSearch(spec, dataset, out, device=device, launch=launch)
    with _ctrl_c() as stop:
        front = search.run(stop, _Progress())
    if options.json:
        sys.stdout.write(json.dumps(_summary(front, out)) + "\n")
    else:
        Console(highlight=False).print(_table(front))
    for error in front.failed:
        _ERR.print(f"trial {error['trial']} failed: {failures.said(error)}", style="red", markup=False, soft_wrap=True)
    for warning in front.warnings:
        _ERR.print(f"warning: {warning['detail']}", style="yellow", markup=False, soft_wrap=True)
    if not front.finished:
        _ERR.print(f"interrupted: the same command goes on from {out}", markup=False, soft_wrap=True)
        return INTERRUPTED
    _ERR.print(f"{len(front.points)} networks are in {out / 'points'}", markup=False, soft_wrap=True)
    return 0 if front.points else 1


def _weights(options: argparse.Namespace) -> int:
    from paretofit.models.pretrained.convert import convert
    from paretofit.models.pretrained.fetch import fetch, identify

    given, cache = Path(options.weights), get_settings().home / "cache" / "weights"
    is_file = given.exists() or options.weights not in SOURCES
    if options.source is not None and not is_file:
        raise CommandError(f"--source: says what a file is, and {given} is not a file: leave it out")
    published = identify(given, options.source) if is_file else SOURCES[options.weights]
    described = {name: value for name in ("licence", "mean", "std") if (value := getattr(options, name)) is not None}
    if published is None:
        record = convert(given, options.out, allow_non_commercial=options.allow_non_commercial, **described)
    elif described:
        field = next(iter(described))
        raise CommandError(f"--{field}: the source {published.name} states its own: leave it out")
    else:
        record = fetch(published.name, options.out, cache=cache, file=given if is_file else None)
    sys.stdout.write(f"{options.out}: {record.family} x {record.width:g}, {record.licence}\n")
    return 0


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _evaluate(options: argparse.Namespace) -> int:
    from paretofit.search.data.store import Dataset
    from paretofit.search.evaluation import reevaluate

    with tempfile.TemporaryDirectory() as scratch:
        folder = evaluated_dataset(options.dataset, options.split, Path(scratch))
        found = reevaluate(options.checkpoint, Dataset.open(folder), options.split)
    said = f"top1 {found.top1:.6f} on the {found.images} images of the {found.split} split"
    if found.reported is None:
        said += "; nothing was reported for these images on this kind of device"
    elif found.equal:
        said += ", exactly as reported"
    else:
        said += f", but {found.reported:.6f} was reported"
    if options.json:
        answer = {"top1": found.top1, "reported": found.reported, "equal": found.equal, "images": found.images}
        _ERR.print(said, markup=False, soft_wrap=True)
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write(said + "\n")
    return DIFFERS if found.equal is False else 0


@contextmanager
def _ctrl_c() -> Iterator[Any]:
    """A `stop` that drains after the first Ctrl-C or SIGTERM; a second Ctrl-C ends the process at once. Under torchrun,
    which hands the first on once more and kills after 30 s, it does not."""
    asked = Stop.NO

    def drain(number: int, frame: object) -> None:
        del number, frame
        nonlocal asked
        asked = Stop.DRAIN
        if "WORLD_SIZE" in os.environ:
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(2, b"\nstopping after this step; Ctrl-C again to stop at once\n")

    before = {number: signal.signal(number, drain) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """A line on stderr about every five seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, trial: int, fraction: float) -> None:
        now = time.monotonic()
        if now >= self._next or fraction >= 1:
            _ERR.print(f"trial {trial}: {fraction:4.0%}")
            self._next = now + 5


def _table(front: Front) -> Table:
    table = Table("network", "MACs", "parameters", "selection", "top1", title=f"hypervolume {front.hypervolume:.4f}")
    for point in front.points:
        metrics = point.metrics
        top1 = f"{metrics['top1']:.4f}" if "top1" in metrics else "-"
        selection = f"{metrics['selection_top1']:.4f}"
        table.add_row(point.key, f"{metrics['macs']:,.0f}", f"{metrics['params']:,.0f}", selection, top1)
    if front.majority is not None:
        table.add_section()
        shares = [front.majority.accuracy(metric) for metric in ("selection_top1", "top1")]
        shown = ["-" if share is None else f"{share:.4f}" for share in shares]
        table.add_row(f"majority class: {front.majority.label}", "-", "-", *shown)
    return table


def _summary(front: Front, out: Path) -> dict[str, Any]:
    return {
        "out": str(out),
        **front.summary(),
        "points": [{"key": point.key, "config": point.config, "metrics": point.metrics} for point in front.points],
    }


if __name__ == "__main__":
    status = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Threads of a group that is over now and then make the interpreter's end an abort, and that a failure to
        # torchrun.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
