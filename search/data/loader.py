"""Batches of a dataset's split on a device.

The images of a batch and their crops are sampled on the host from (seed, epoch, batch), so that a resumed run sees the
same batches. Pixels are cropped on the device, without synchronization.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretofit.core.cpus import available_cpus
from paretofit.search.contracts.point import Preprocessing
from paretofit.search.data import boxes, colors, sampling
from paretofit.search.data.augmentation import Augmentation
from paretofit.search.data.boxes import Integers
from paretofit.search.data.store import Dataset, Split

RESIDENT_BYTES = 2 * 1024**3
"""A split with at most this many decoded bytes is kept on the device as uint8; a larger one is read and decoded
ahead."""

_AHEAD = 2
_PERMUTATION, _CUTS, _COLOURS = 0, 1, 2


class Batch(NamedTuple):
    """`images` float32 [batch, channels, height, width], normalized; `labels` int64 [batch]."""

    images: Tensor
    labels: Tensor


class _Work(NamedTuple):
    """A batch on the host: rows of the split, crop `boxes`, color changes (`colors`)."""

    rows: Integers
    cuts: Integers
    colors: colors.Floats | None = None


class _Uncut(NamedTuple):
    """A batch on the device: flat pixels, boxes, labels, and colors (float32 [batch, colors.COLUMNS]) if any."""

    flat: Tensor
    cuts: sampling.Boxes
    labels: Tensor
    colors: Tensor | None


class _Feed:
    """Batches of a split on the device, before cropping."""

    def __init__(self, split: Split, device: torch.device, *, resident_bytes: int) -> None:
        self._split = split
        self._device = device
        self._threads = available_cpus()
        self._resident: Tensor | None = None
        if split.decoded_bytes <= resident_bytes:
            with ThreadPoolExecutor(self._threads) as decoders:
                flat, self._offsets = split.gather(np.arange(len(split)), decoders.map)
            self._resident = torch.from_numpy(flat).to(device)

    def stream(self, works: Iterator[_Work]) -> Iterator[_Uncut]:
        """In the order of `works`."""
        if self._resident is not None:
            for work in works:
                yield _Uncut(self._resident, *self._small(work, self._offsets[work.rows]))
            return
        with ThreadPoolExecutor(self._threads) as decoders, ThreadPoolExecutor(1) as reader:

            def read(work: _Work) -> tuple[Tensor, Integers]:
                flat, offsets = self._split.gather(work.rows, decoders.map)
                return self._staged(flat), offsets

            ahead = [(work, reader.submit(read, work)) for work in islice(works, _AHEAD)]
            while ahead:
                work, reading = ahead.pop(0)
                flat, offsets = reading.result()
                ahead.extend((later, reader.submit(read, later)) for later in islice(works, 1))
                yield _Uncut(flat.to(self._device, non_blocking=True), *self._small(work, offsets))

    def _small(self, work: _Work, offsets: Integers) -> tuple[sampling.Boxes, Tensor, Tensor | None]:
        work.cuts[boxes.OFFSET] = offsets
        # One transfer for all integers.
        packed = self._staged(np.concatenate([work.cuts, self._split.labels[None, work.rows]]))
        *columns, labels = packed.to(self._device, non_blocking=True).unbind()
        colored = None
        if work.colors is not None:
            colored = self._staged(work.colors).to(self._device, non_blocking=True)
        return sampling.Boxes(*(column[:, None] for column in columns)), labels, colored

    def _staged(self, array: NDArray[Any]) -> Tensor:
        """As a pinned host tensor, so that copies to the device do not block."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._device.type == "cuda" else tensor


def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


class TrainBatches:
    """Augmented batches of `image_size`, reshuffled every epoch; an epoch's last, smaller batch is dropped.

    A step's batch depends only on (seed, epoch, position in the epoch), so that the step number is the whole state.
    With `share` (rank, ranks) only that part of each batch is produced, as `torch.tensor_split` would split it.
    `normalization`: mean and standard deviation per channel; unset: the dataset's own.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        recipe: Augmentation,
        device: torch.device | str,
        seed: int,
        split: str = "train",
        share: tuple[int, int] = (0, 1),
        normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        images = dataset.split(split)
        if batch_size > len(images):
            raise ValueError(f"batch_size {batch_size} exceeds the {len(images)} images of {split}: make it smaller")
        self.steps_per_epoch = len(images) // batch_size
        self._batch_size = batch_size
        self._share = share
        self._recipe = recipe
        self._seed = seed
        self._split = images
        self._size = dataset.profile.image_size
        self._channels = dataset.profile.channels
        device = torch.device(device)
        mean, std = normalization or (dataset.profile.mean, dataset.profile.std)
        self._mean, self._std = _per_channel(mean, device), _per_channel(std, device)
        self._feed = _Feed(images, device, resident_bytes=resident_bytes)

    def from_step(self, step: int = 0) -> Generator[Batch, None, None]:
        """The batches of steps `step`, `step + 1`, ... without end. Step s is batch s % steps_per_epoch of epoch s //
        steps_per_epoch."""
        for flat, cuts, labels, colored in self._feed.stream(self._works(step)):
            if self._recipe.kind == "resized_crop":
                pixels = sampling.resized_crop(flat, cuts, self._size, self._channels)
            else:
                pixels = sampling.crop(flat, cuts, self._size, self._channels, self._recipe.padding_mode)
            if colored is not None:
                pixels = colors.apply(pixels, colored)
            yield Batch(sampling.normalize(pixels, self._mean, self._std), labels)

    def _works(self, step: int) -> Iterator[_Work]:
        first, skip = divmod(step, self.steps_per_epoch)
        for epoch in count(first):
            order = np.random.default_rng([self._seed, epoch, _PERMUTATION]).permutation(len(self._split))
            for batch in range(skip if epoch == first else 0, self.steps_per_epoch):
                rows = order[batch * self._batch_size : (batch + 1) * self._batch_size]
                yield _share(self._draw(rows, epoch, batch), *self._share)

    def _draw(self, rows: Integers, epoch: int, batch: int) -> _Work:
        """Boxes and colors of a whole batch."""
        random = np.random.default_rng([self._seed, epoch, _CUTS, batch])
        cuts = boxes.draw(self._recipe, random, self._split.heights[rows], self._split.widths[rows], self._size)
        random = np.random.default_rng([self._seed, epoch, _COLOURS, batch])
        return _Work(rows, cuts, colors.draw(self._recipe, random, len(rows)))


def _share(work: _Work, rank: int, ranks: int) -> _Work:
    whole, longer = divmod(len(work.rows), ranks)
    first = rank * whole + min(rank, longer)
    part = slice(first, first + whole + (rank < longer))
    return _Work(work.rows[part], work.cuts[:, part], None if work.colors is None else work.colors[part])


def evaluation_batches(
    dataset: Dataset,
    split: str,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    device: torch.device | str,
    rows: Integers | None = None,
) -> Generator[Batch, None, None]:
    """Center crops in the split's order (or of `rows`), normalized, not yet resized; the last batch may be smaller.

    An image smaller than the crop is framed by zeros (before normalization) or enlarged, as `preprocessing.frame` says;
    the pixels of the others do not depend on it.
    """
    images = dataset.split(split)
    device = torch.device(device)
    mean, std = _per_channel(preprocessing.mean, device), _per_channel(preprocessing.std, device)
    chosen = np.arange(len(images)) if rows is None else rows
    pieces = (chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size))
    size, channels = preprocessing.crop, dataset.profile.channels
    smaller = (images.heights[chosen] < size[0]) | (images.widths[chosen] < size[1])
    enlarge = preprocessing.frame == "resize" and bool(smaller.any())
    cut = boxes.enlarged if enlarge else boxes.center
    works = (_Work(piece, cut(images.heights[piece], images.widths[piece], size)) for piece in pieces)
    feed = _Feed(images, device, resident_bytes=0)  # each image is used once
    for flat, cuts, labels, _ in feed.stream(works):
        if enlarge:
            pixels = sampling.resized_crop(flat, cuts, size, channels)
        else:
            pixels = sampling.crop(flat, cuts, size, channels, "zeros")
        yield Batch(sampling.normalize(pixels, mean, std), labels)
