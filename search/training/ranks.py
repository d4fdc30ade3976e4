"""Processes that train one network together, each on its own part of every batch.

They draw the same sub-networks, sum their gradients once per step, and so stay equal; batch normalisation sees the
rank's own images. Rank 0 alone reports and writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch import distributed as dist

from paretofit.search.reporter import Stop

_BUCKET_BYTES: Final = 25 * 1024**2
_STOPS: Final = tuple(Stop)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `count`. Alone, nothing is sent."""

    rank: int = 0
    count: int = 1

    @torch.no_grad()
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Put the sums over all ranks into the tensors, which are of one dtype, in their order the same on each."""
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
    def align(self, tensors: Sequence[Tensor]) -> None:
        """Put what rank 0 has into the tensors: generators of different devices draw different ones."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def agree(self, stop: Stop) -> Stop:
        """What rank 0 was asked. The host waits for the other ranks, but for no device."""
        if self.count == 1:
            return stop
        code = torch.tensor(_STOPS.index(stop))
        dist.broadcast(code, src=0)
        return _STOPS[int(code)]


def current() -> Ranks:
    """Those of this process's default group, or it alone."""
    if not dist.is_available() or not dist.is_initialized():
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """In order, each of `_BUCKET_BYTES` or one tensor more: sent while the next is made."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(each.nbytes for each in bucket) >= _BUCKET_BYTES:
            yield bucket
            bucket = []
    if bucket:
        yield bucket
