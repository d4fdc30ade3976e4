"""Processes that train one network together, each on its own part of every batch.

They sample the same sub-networks and sum their gradients once per step, and so stay identical; batch norm sees the
rank's own images. Only rank 0 reports and writes files. torchrun starts them (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_*):
rank 0 runs the search and sends each trial to the others before it runs the trial itself.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch import distributed as dist

from paretofit.search.contracts.failures import code_of
from paretofit.search.contracts.latency import Measured
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.trial import Reporter, Stop, Trial

_BUCKET_BYTES: Final = 25 * 1024**2
_STOPS: Final = tuple(Stop)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `count`. With one process nothing is sent."""

    rank: int = 0
    count: int = 1

    @torch.no_grad()
    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum the tensors over all ranks, in place. They have one dtype and the same order on each rank."""
        if self.count == 1:
            return
        sent = []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, work in sent:
            if work is not None:
                work.wait()
            sums = torch.split(flat, [tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view(tensor.shape) for part, tensor in zip(sums, bucket, strict=True)])

    @torch.no_grad()
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors with those of rank 0: generators of different devices draw different ones."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def agree(self, stop: Stop) -> Stop:
        """The stop that rank 0 received. Waits for the other ranks, but for no device."""
        if self.count == 1:
            return stop
        code = torch.tensor(_STOPS.index(stop))
        dist.broadcast(code, src=0)
        return _STOPS[int(code)]


def current() -> Ranks:
    """Ranks of this process's default group, or a single one."""
    if not dist.is_available() or not dist.is_initialized():
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """In order, in buckets of at most `_BUCKET_BYTES` plus one tensor: one is sent while the next is prepared."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(each.nbytes for each in bucket) >= _BUCKET_BYTES:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


Run = Callable[[Trial, Reporter], dict[str, Any]]

_PATIENCE: Final = timedelta(days=30)
"""Timeout for ranks that wait while rank 0 prepares data or measures networks."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A `Reporter` for every rank but 0, which discards everything."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Discarded: rank 0 reports it."""

    def point(self, point: Point) -> None:
        """Discarded: rank 0 reports it."""

    def artifact(self, name: str, path: Path) -> None:
        """Discarded: rank 0 reports it."""

    def latency(self, measured: Measured) -> None:
        """Discarded: rank 0 reports it."""

    def checkpoint(self, path: Path, step: int) -> None:
        """Discarded: rank 0 reports it."""

    def should_stop(self) -> Stop:
        """The stop of rank 0 arrives with the step (`Ranks.agree`)."""
        return Stop.NO


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the process group for the block; yields the rank and its device. `cuda` selects the GPU with the rank's
    local number."""
    backend = "gloo"
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
        # Control messages go over the CPU group, so that hosts need not wait for devices.
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield current(), device
    finally:
        dist.destroy_process_group()


def lead(run: Run, trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """On rank 0: run a trial together with the other ranks, and wait for them, because their files are in its
    folder."""
    dist.broadcast_object_list([trial], src=0)
    return _together(partial(run, trial, reporter))


def dismiss() -> None:
    """On rank 0, after the last trial: end the other ranks."""
    dist.broadcast_object_list([None], src=0)


def follow(run: Run, device: str) -> None:
    """On every other rank: run the trials of rank 0 until it dismisses them.

    An error with a failure code (`contracts.failures`) ends only its trial: every rank raises it at the same step, and
    rank 0 continues with the next trial.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # They reach all ranks; rank 0 handles them.
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
            _together(partial(run, replace(trial, work=work, device=device), Silent()))
        except Exception as error:
            if code_of(error) is None:
                raise


def _together(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run, then wait until every rank is done. An error without a code on one rank ends all of them, so no rank waits
    forever."""
    try:
        outputs = run()
    except Exception as error:
        if code_of(error) is not None:
            dist.all_reduce(torch.zeros(1))
        raise
    dist.all_reduce(torch.zeros(1))
    return outputs
