"""Latency of a network with its masks and without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from paretofit.models.build import Network, build
from paretofit.models.kinds.sampling import plain, sampled_blocks
from paretofit.models.layers.sparse import break_even, sparse
from paretofit.search.latency.clock import timed

TURNS: Final = 3
_IMAGES: Final = 2


def measure(network: Network, images: Tensor) -> dict[str, float]:
    """Milliseconds for one image, the median over some of `images` [N, C, H, W], measured alternately. `sparse_ms`:
    with masks, on one CPU thread (or on the images' GPU). `dense_ms`: the plain network in its fastest dense form.
    Equal for a network without masks."""
    with _one_thread():
        each = [image.contiguous(memory_format=torch.channels_last) for image in torch.split(images[:_IMAGES], 1)]
        dense = build(plain(network.architecture), images.device).eval()
        table = break_even(network, each[0])
        forms = [sparse(dense, table)]
        if sampled_blocks(network.architecture):
            forms.append(sparse(network, table))
        found = timed([_Pass(form, each) for form in forms], turns=TURNS)
    taken = [timing.median_ms / len(each) for timing in found]
    return {"sparse_ms": taken[-1], "dense_ms": taken[0]}


class _Pass:
    """Images one by one."""

    def __init__(self, network: Network, images: list[Tensor]) -> None:
        self._network = network
        self._images = images

    @torch.inference_mode()
    def __call__(self) -> None:
        for image in self._images:
            self._network(image)
        if self._images[0].is_cuda:
            torch.cuda.synchronize(self._images[0].device)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
