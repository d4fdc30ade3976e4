"""Training throughput of MutualNet's step against the step as published by its authors, in plain PyTorch.

MobileNetV1, widths .25 to 1, four resolutions, two threads, float32 on the CPU; batches of 16 images of 224 pixels and
of 64 images of 64 pixels. Goal: twice the images per second of the plain step, in each case. Both take the same steps
(widths and resolutions) in turn, each in a process of its own, because ours configures the memory allocator like the
trainer does.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from benchmarks.harness import Claim, Report, interleaved, medians, run
from benchmarks.published import mutualnet as published
from paretofit.models.architecture import Architecture
from paretofit.models.kinds.basic import Conv
from paretofit.models.kinds.separable import Separable
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.allocator import keep_freed_memory
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.data.loader import Batch
from paretofit.search.methods.mutualnet.params import MutualNetParams
from paretofit.search.methods.mutualnet.presets import PUBLISHED
from paretofit.search.methods.mutualnet.train import draw, step
from paretofit.search.training.loop import sgd

THREADS: Final = 2
STEPS: Final = 3
REPEATS: Final = 5
SEED: Final = 0
MOMENTUM: Final = 0.9
WEIGHT_DECAY: Final = 1e-4

Losses = tuple[Tensor, Tensor]
"""Cross-entropy of the full network, and the sum of the distillation losses."""
Train = Callable[[int, Batch], Losses]
"""Takes the optimizer step with this index."""


@dataclass(frozen=True, slots=True)
class Case:
    """A training configuration; the largest resolution is the side of the images."""

    batch_size: int
    resolutions: tuple[int, ...]
    classes: int
    base_width: float = 1.0
    learning_rate: float = 0.1

    @property
    def name(self) -> str:
        return f"batch_{self.batch_size}_at_{self.resolutions[0]}_px"

    @property
    def params(self) -> MutualNetParams:
        options = {"family": "mobilenet_v1", "base_width": self.base_width, "resolutions": self.resolutions}
        return MutualNetParams.model_validate({**PUBLISHED, **options}).resolved(self.profile, None)

    @property
    def profile(self) -> DatasetProfile:
        side = self.resolutions[0]
        return DatasetProfile(
            classes=tuple(map(str, range(self.classes))),
            channels=3,
            image_size=(side, side),
            images={"train": self.batch_size},
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            fingerprint="",
        )

    @property
    def architecture(self) -> Architecture:
        return self.params.architecture(self.profile)

    def batch(self) -> Batch:
        side = self.resolutions[0]
        return Batch(torch.randn(self.batch_size, 3, side, side), torch.randint(self.classes, (self.batch_size,)))


CASES: Final = (Case(16, (224, 192, 160, 128), 1000), Case(64, (64, 56, 44, 36), 200))


def ours(case: Case) -> tuple[Slimmable, Train]:
    """Our training step, as the trainer takes it."""
    network = Slimmable(case.architecture)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    network.train()
    optimizer = sgd(
        network, learning_rate=case.learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, decay="dense"
    )
    params, profile = case.params, case.profile

    def train(index: int, batch: Batch) -> Losses:
        optimizer.zero_grad(set_to_none=True)
        losses = step(network, params, profile, SEED, index, batch)
        optimizer.step()
        return losses["loss"], losses["distillation_loss"]

    return network, train


def plain(case: Case) -> tuple[published.MobileNetV1, Train]:
    """The published training step, with the same random draws as ours."""
    blocks = [block for block in case.architecture.blocks if isinstance(block, Conv | Separable)]
    widths, strides = [block.out_channels for block in blocks], [block.stride for block in blocks]
    network = published.MobileNetV1(widths, strides, channels=3, classes=case.classes)
    optimizer = published.sgd(network, learning_rate=case.learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    params = case.params

    def train(index: int, batch: Batch) -> Losses:
        drawn = draw(
            SEED,
            index,
            widths=(params.widths.min, params.widths.max),
            resolutions=case.resolutions,
            random_widths=params.random_widths,
        )
        subs = [(sub.width, sub.resolution) for sub in drawn if isinstance(sub.width, float)]
        return published.step(
            network, optimizer, *batch, resolutions=case.resolutions, width=params.widths.max, subs=subs
        )

    return network, train


def serve(name: str, case: Case, connection: Connection) -> None:
    """Process entry point: take the number of steps in each message and reply with the peak memory in MiB."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    if name == "ours":
        keep_freed_memory()
    _, train = ours(case) if name == "ours" else plain(case)
    batch = case.batch()
    while steps := connection.recv():
        for index in range(steps):
            train(index, batch)
        connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


@contextmanager
def server(name: str, case: Case) -> Iterator[Callable[[], int]]:
    """Start a worker process. Yields a function that runs steps in it and returns its peak memory in MiB."""
    connection, other = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(name, case, other))
    process.start()
    other.close()

    def run_steps() -> int:
        connection.send(STEPS)
        peak_mib: int = connection.recv()
        return peak_mib

    try:
        yield run_steps
        connection.send(0)
    finally:
        connection.close()
        process.join()


def measure(case: Case) -> tuple[Claim, dict[str, float]]:
    with server("plain", case) as plain_steps, server("ours", case) as our_steps:
        cases = {"plain": plain_steps, "ours": our_steps}
        seconds = medians(interleaved(cases, repeats=REPEATS))
        memory = {f"{name}_peak_mib": float(run_steps()) for name, run_steps in cases.items()}
    rates = {f"{name}_images_per_second": STEPS * case.batch_size / taken for name, taken in seconds.items()}
    speedup = seconds["plain"] / seconds["ours"]
    return Claim(f"speedup_{case.name}", speedup, goal=2.0, better="higher"), rates | memory


def main() -> Report:
    measured = {case.name: measure(case) for case in CASES}
    details = {name: {key: round(value, 2) for key, value in found.items()} for name, (_, found) in measured.items()}
    return Report("mutualnet_step", tuple(claim for claim, _ in measured.values()), details)


if __name__ == "__main__":
    run(main)
