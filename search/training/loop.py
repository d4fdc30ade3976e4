"""The training loop: steps, learning rate, what is reported, checkpoints, stopping. What a step does is the
method's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import torch
from torch import Tensor

from paretofit.models.finite import NonFiniteError
from paretofit.search.data.loader import Batch
from paretofit.search.reporter import Reporter, Stop
from paretofit.search.training.optimizer import set_learning_rate
from paretofit.search.training.ranks import Ranks
from paretofit.search.training.schedule import Fall, warmed_up
from paretofit.search.training.weights import Weights

CHECKPOINT_SECONDS: Final = 30.0
CURVE_POINTS: Final = 200
PROGRESS_SECONDS: Final = 1.0

ALONE: Final = Ranks()

Update = Callable[[int, Batch], dict[str, Tensor]]
"""Adds the gradients of a step's batch and returns its losses: scalars that stay on the device."""


class DivergedError(NonFiniteError):
    """A loss, a weight or a statistic is no longer a finite number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast: `steps` in all, of which `start` are done; the learning rate rises to `peak` within
    `warmup` of them and then falls."""

    steps: int
    peak: float
    fall: Fall = "cosine"
    warmup: int = 0
    start: int = 0
    checkpoint_seconds: float = CHECKPOINT_SECONDS


def train(
    schedule: Schedule,
    batches: Iterable[Batch],
    update: Update,
    weights: Weights,
    reporter: Reporter,
    save: Callable[[int], None],
    ranks: Ranks = ALONE,
    halts: Callable[[int], bool] | None = None,
) -> tuple[int, Stop]:
    """Train until the schedule's end, a stop, or a step that `halts`; returns the steps done and the stop. `batches`
    begin at `start`.

    `save(step)` is called every `checkpoint_seconds` and when drained, on rank 0. Losses and gradients of an update are
    summed over the `ranks`. Raises DivergedError.
    """
    step, stop = schedule.start, Stop.NO
    meter = _Meter(reporter, schedule.steps, ranks)
    saved = time.monotonic()
    for batch in islice(batches, schedule.steps - step):
        stop = ranks.agree(reporter.should_stop())
        if stop is not Stop.NO:
            break
        learning_rate = warmed_up(schedule.peak, step, schedule.steps, schedule.warmup, schedule.fall)
        set_learning_rate(weights.optimizer, learning_rate)
        weights.optimizer.zero_grad(set_to_none=True)
        losses = update(step, batch)
        ranks.sum([p.grad for p in weights.network.parameters() if p.grad is not None])
        weights.update(step)
        step += 1
        meter.add(step, losses, learning_rate, len(batch.labels))
        if halts is not None and halts(step):
            break
        if ranks.rank == 0 and time.monotonic() - saved >= schedule.checkpoint_seconds and step < schedule.steps:
            save(step)
            saved = time.monotonic()
    if ranks.rank == 0 and stop is Stop.DRAIN and step > schedule.start:
        save(step)
    return step, stop


class _Meter:
    """Curves of about `CURVE_POINTS` points, and `progress` every second. Losses are summed on the device and fetched
    once for each point."""

    def __init__(self, reporter: Reporter, steps: int, ranks: Ranks) -> None:
        self._reporter = reporter
        self._ranks = ranks
        self._steps = steps
        self._every = math.ceil(steps / CURVE_POINTS)
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        self._images = 0
        self._since = self._progressed = time.monotonic()

    def add(self, step: int, losses: dict[str, Tensor], learning_rate: float, images: int) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._summed += 1
        self._images += images * self._ranks.count
        if step % self._every == 0 or step == self._steps:
            self._flush(step, learning_rate)
        now = time.monotonic()
        if now - self._progressed >= PROGRESS_SECONDS or step == self._steps:
            self._reporter.metric("progress", step, step / self._steps)
            self._progressed = now

    def _flush(self, step: int, learning_rate: float) -> None:
        sums = torch.stack(list(self._sums.values()))
        self._ranks.sum([sums])
        means = (sums / self._summed).tolist()
        for name, mean in zip(self._sums, means, strict=True):
            if not math.isfinite(mean):
                raise DivergedError(f"training diverged: {name} is {mean} at step {step}; lower learning_rate")
            self._reporter.metric(name, step, mean)
        now = time.monotonic()
        self._reporter.metric("learning_rate", step, learning_rate)
        self._reporter.metric("images_per_second", step, self._images / max(now - self._since, 1e-9))
        self._sums, self._summed, self._images, self._since = {}, 0, 0, now
