"""Trials on several ranks of one machine, as torchrun starts them (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_*).

Rank 0 runs the search and hands each trial to the others before it runs it itself.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch
from torch import distributed as dist

from paretofit.search.failures import code_of
from paretofit.search.latency.table import Measured
from paretofit.search.reporter import Point, Reporter, Stop, Trial
from paretofit.search.training.ranks import Ranks, current

Run = Callable[[Trial, Reporter], dict[str, Any]]

_PATIENCE: Final = timedelta(days=30)
"""Of ranks that wait while rank 0 prepares data or measures networks."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A `paretofit.search.reporter.Reporter` for every rank but 0."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Rank 0 reports it."""

    def point(self, point: Point) -> None:
        """Rank 0 reports it."""

    def artifact(self, name: str, path: Path) -> None:
        """Rank 0 reports it."""

    def latency(self, measured: Measured) -> None:
        """Rank 0 reports it."""

    def checkpoint(self, path: Path, step: int) -> None:
        """Rank 0 reports it."""

    def should_stop(self) -> Stop:
        """What rank 0 is asked comes with the step (`Ranks.agree`)."""
        return Stop.NO


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """Be a rank within the context: which, and its device. `cuda` is the one of the rank's own number on this
    machine."""
    backend = "gloo"
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
        # What the hosts agree on goes beside the devices, so that they need not wait for them.
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield current(), device
    finally:
        dist.destroy_process_group()


def lead(run: Run, trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """On rank 0: run a trial with the others."""
    dist.broadcast_object_list([trial], src=0)
    return run(trial, reporter)


def dismiss() -> None:
    """On rank 0, after the last trial: end the others."""
    dist.broadcast_object_list([None], src=0)


def follow(run: Callable[[Trial], Run], device: str) -> None:
    """On every other rank: run the trials of rank 0 until it dismisses them. `run` finds what a trial is run by.

    An error with a failure code (`paretofit.search.failures`) ends its trial only: every rank has to raise it at the
    same step, as rank 0 goes on with the next trial.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # They reach all ranks; rank 0 decides what becomes of them.
        signal.signal(number, signal.SIG_IGN)
    while True:
        received: list[Trial | None] = [None]
        dist.broadcast_object_list(received, src=0)
        [trial] = received
        if trial is None:
            return
        work = trial.work / f"rank-{current().rank}"
        work.mkdir()
        try:
            run(trial)(replace(trial, work=work, device=device), Silent())
        except Exception as error:
            if code_of(error) is None:
                raise
