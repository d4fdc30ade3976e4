"""The training loop: steps, optimizer, learning rate, reports, checkpoints, stopping. The method defines the step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD

from paretofit.models.finite import NonFiniteError
from paretofit.search.contracts.trial import Reporter, Stop
from paretofit.search.data.loader import Batch
from paretofit.search.training.distributed import Ranks
from paretofit.search.training.state import TrainState
from paretofit.search.training.step import Update

LrSchedule = Literal["cosine", "thirds"]


def cosine(peak: float, step: int, steps: int) -> float:
    """From `peak` at step 0 along half a cosine to 0 at `steps` (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * peak * (1 + math.cos(math.pi * min(step, steps) / steps))


def step_decay(peak: float, step: int, steps: int) -> float:
    """`peak`, divided by 10 after each third of the steps: every 30 of 90 epochs, as ImageNet networks were trained (He
    et al., arXiv 1512.03385; Qin et al., arXiv 1802.03750)."""
    return peak * 0.1 ** min(2, 3 * step // steps)


def warmed_up(peak: float, step: int, steps: int, warmup: int, lr_schedule: LrSchedule = "cosine") -> float:
    """Linear warm-up to `peak` at step `warmup` (Goyal et al., arXiv 1706.02677, section 2.2), then the schedule to the
    end at `steps`."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    falling = cosine if lr_schedule == "cosine" else step_decay
    return falling(peak, step - warmup, steps - warmup)


Decay = Literal["dense", "all"]
_SHARE: Final = "share"
"""Key of a parameter group: factor of its learning rate."""


def sgd(
    network: nn.Module,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    decay: Decay,
    backbone_rate: float = 1.0,
) -> SGD:
    """Nesterov SGD in up to four parameter groups: with and without weight decay, for linear layers and for all others,
    whose learning rate is multiplied by `backbone_rate`. Frozen parameters are left out.

    `dense` decays the weights of linear layers and of convolutions that are not depthwise; `all` decays everything.
    """
    dense = {id(module.weight) for module in network.modules() if _is_dense(module)}
    head = {id(p) for module in network.modules() if isinstance(module, nn.Linear) for p in module.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in network.parameters():
        if p.requires_grad:
            penalty = weight_decay if decay == "all" or id(p) in dense else 0.0
            share = 1.0 if id(p) in head else backbone_rate
            groups.setdefault((penalty, share), []).append(p)
    described = [
        {"params": group, "weight_decay": penalty, _SHARE: share} for (penalty, share), group in groups.items()
    ]
    optimizer = SGD(described, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    set_learning_rate(optimizer, learning_rate)
    if momentum > 0:
        # The fused kernel leaves its buffers uninitialized if the first float16 gradients overflow.
        for group in groups.values():
            for parameter in group:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: SGD, learning_rate: float) -> None:
    """Set the learning rate, multiplied by each group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group[_SHARE]


def _is_dense(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        depthwise = module.weight.shape[1] == 1 and module.groups == module.in_channels > 1
        return not depthwise
    return isinstance(module, nn.Linear)


CHECKPOINT_SECONDS: Final = 30.0
CURVE_POINTS: Final = 200
PROGRESS_SECONDS: Final = 1.0

SINGLE_PROCESS: Final = Ranks()


class DivergedError(NonFiniteError):
    """A loss, a weight or a statistic is infinite or NaN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Duration and learning rate: `steps` in total, of which `start` are done; the learning rate rises to `peak` in
    `warmup` steps and then decreases."""

    steps: int
    peak: float
    lr_schedule: LrSchedule = "cosine"
    warmup: int = 0
    start: int = 0
    checkpoint_seconds: float = CHECKPOINT_SECONDS


def train(
    schedule: Schedule,
    batches: Iterable[Batch],
    update: Update,
    weights: TrainState,
    reporter: Reporter,
    save: Callable[[int], None],
    ranks: Ranks = SINGLE_PROCESS,
    should_stop: Callable[[int], bool] | None = None,
) -> tuple[int, Stop]:
    """Train until the schedule's end, a stop, or a step where `should_stop` is true; returns the steps done and the
    stop. `batches` begin at `start`.

    `save(step)` is called every `checkpoint_seconds` and when drained, on rank 0. Losses and gradients of an update are
    summed over the `ranks`. Raises DivergedError.
    """
    step, stop = schedule.start, Stop.NO
    meter = _ThroughputMeter(reporter, schedule.steps, ranks)
    saved = time.monotonic()
    for batch in islice(batches, schedule.steps - step):
        stop = ranks.agree(reporter.should_stop())
        if stop is not Stop.NO:
            break
        learning_rate = warmed_up(schedule.peak, step, schedule.steps, schedule.warmup, schedule.lr_schedule)
        set_learning_rate(weights.optimizer, learning_rate)
        weights.optimizer.zero_grad(set_to_none=True)
        losses = update(step, batch)
        ranks.all_reduce([p.grad for p in weights.network.parameters() if p.grad is not None])
        weights.update(step)
        step += 1
        meter.add(step, losses, learning_rate, len(batch.labels))
        if should_stop is not None and should_stop(step):
            break
        if ranks.rank == 0 and time.monotonic() - saved >= schedule.checkpoint_seconds and step < schedule.steps:
            save(step)
            saved = time.monotonic()
    if ranks.rank == 0 and stop is Stop.DRAIN and step > schedule.start:
        save(step)
    return step, stop


class _ThroughputMeter:
    """Curves with about `CURVE_POINTS` points, and `progress` every second. Losses are summed on the device and fetched
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
        self._ranks.all_reduce([sums])
        means = (sums / self._summed).tolist()
        for name, mean in zip(self._sums, means, strict=True):
            if not math.isfinite(mean):
                raise DivergedError(f"training diverged: {name} is {mean} at step {step}; lower learning_rate")
            self._reporter.metric(name, step, mean)
        now = time.monotonic()
        self._reporter.metric("learning_rate", step, learning_rate)
        self._reporter.metric("images_per_second", step, self._images / max(now - self._since, 1e-9))
        self._sums, self._summed, self._images, self._since = {}, 0, 0, now
