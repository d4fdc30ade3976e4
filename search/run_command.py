"""`python -m paretofit.search run`: a search in this process, or in the processes that torchrun starts."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.console import Console
from rich.table import Table

from paretofit.core.formatting import count
from paretofit.search import trials
from paretofit.search.allocator import keep_freed_memory
from paretofit.search.contracts import failures
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.inputs import CommandError, local_dataset, read_spec, resolve
from paretofit.search.local import Front, Launch, LocalSearch

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as in shells."""
STDERR: Final = Console(stderr=True, highlight=False)


def run(options: argparse.Namespace) -> int:
    """Run the command; exit code 0, 1 without a network, or `INTERRUPTED`. Raises ValueError and OSError."""
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
            # Printed before the process group ends, because torchrun then ends this process.
            return fail(error)
        distributed.dismiss()
        return code


def start_torchrun(options: argparse.Namespace, words: Sequence[str]) -> NoReturn:
    """Replace this process by torchrun, whose processes run this command again, after validating the input and creating
    the dataset."""
    ranks, device = options.ranks, options.device
    if ranks < 1:
        raise CommandError(f"--ranks: invalid number {ranks}: use 1 or more")
    if device not in ("cpu", "cuda"):
        raise CommandError(
            f"--device: {device} cannot be used with {ranks} ranks, which need a device each: use cpu or cuda"
        )
    if device == "cuda":
        from torch.cuda import device_count

        if ranks > device_count():
            raise CommandError(
                f"--ranks: {ranks} processes need {ranks} GPUs, but there are {device_count()}: use at most that many"
            )
    _prepared(options)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    os.execv(sys.executable, [*command, "-m", "paretofit.search", *words])  # noqa: S606 - no shell is what is wanted


def fail(error: Exception) -> int:
    """Print the error and return the exit code."""
    STDERR.print(f"search: {error}", style="red", markup=False, soft_wrap=True)
    return 1


def _require_device(device: str) -> None:
    """Raises CommandError for a device that torch does not have."""
    import torch

    kind, _, number = device.partition(":")
    count = torch.cuda.device_count()
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise CommandError(f"--device: invalid device {device}: use cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= count:
        raise CommandError(
            f"--device: {device} is not available: torch sees {count} GPUs; use cpu" + (" or cuda" if count else "")
        )


def _prepared(options: argparse.Namespace) -> tuple[ResolvedSpec, Path]:
    """The resolved specification and its dataset directory."""
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
        STDERR.print(
            f"trial {error['trial']} failed: {failures.summary(error)}", style="red", markup=False, soft_wrap=True
        )
    for warning in front.warnings:
        STDERR.print(f"warning: {warning['detail']}", style="yellow", markup=False, soft_wrap=True)
    if not front.finished:
        STDERR.print(f"interrupted: run the same command again to resume from {out}", markup=False, soft_wrap=True)
        return INTERRUPTED
    STDERR.print(f"{count(len(front.points), 'network')} in {out / 'points'}", markup=False, soft_wrap=True)
    return 0 if front.points else 1


@contextmanager
def _ctrl_c() -> Iterator[Any]:
    """Yields a `stop` that drains after the first Ctrl-C or SIGTERM; a second Ctrl-C ends the process at once. Under
    torchrun the second has no effect, because torchrun repeats the first, and kills after 30 s."""
    requested = Stop.NO

    def drain(number: int, frame: object) -> None:
        del number, frame
        nonlocal requested
        requested = Stop.DRAIN
        if "WORLD_SIZE" in os.environ:
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(2, b"\nstopping after this step; Ctrl-C again to stop at once\n")

    before = {number: signal.signal(number, drain) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """Prints a line to stderr about every five seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, trial: int, fraction: float) -> None:
        now = time.monotonic()
        if now >= self._next or fraction >= 1:
            STDERR.print(f"trial {trial}: {fraction:4.0%}")
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
