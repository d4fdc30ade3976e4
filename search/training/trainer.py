"""Trains a network by a method's recipe, from the start or from a checkpoint.

After running out of memory, batch size and learning rate are multiplied by `batch_scale`: the linear rule (Goyal et
al., arXiv 1706.02677).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from paretofit.search.contracts.trial import Reporter, Stop, Trial
from paretofit.search.data.loader import Batch, TrainBatches, evaluation_batches
from paretofit.search.data.store import Dataset
from paretofit.search.training import guard, loop, state
from paretofit.search.training.distributed import Ranks, current
from paretofit.search.training.guard import RETRY_RATE, Guard, NotLearningError, Predict
from paretofit.search.training.loop import sgd
from paretofit.search.training.params import TrainingParams
from paretofit.search.training.state import ExponentialMovingAverage, TrainState
from paretofit.search.training.step import Passes, accumulate_gradients, autocast_dtype, grad_scaler


class EarlyStopping(Protocol):
    """Rule that may end a training early. `notes`, which are JSON, are stored in every checkpoint and restored from
    it."""

    notes: dict[str, Any]

    def should_stop(self, step: int, steps: int) -> bool:
        """Whether the training ends after `step` of its `steps`; called after each step on all ranks, with the same
        result."""

    def restart(self) -> None:
        """The training restarts from its first step; reset the notes."""


def fit(
    trial: Trial,
    reporter: Reporter,
    network: nn.Module,
    passes: Passes,
    epochs: float,
    early_stopping: EarlyStopping | None = None,
    *,
    predict: Predict | None = None,
    initialize: Callable[[], dict[str, Any]] | None = None,
) -> tuple[dict[str, Any], Stop]:
    """Train `network` by the recipe of the trial's method, on all ranks; returns the trial's outputs and why it ended
    early.

    `initialize` loads trained weights into the network before the first step (not on resume) and returns JSON facts for
    the outputs. `predict` enables a guard: a training that does not learn, or diverges, restarts once with a third of
    its learning rate, then raises NotLearningError or DivergedError.

    A drained training writes a checkpoint; any other but a cancelled one leaves the weights for evaluation. Raises
    ValueError if a batch is too small for the ranks, CheckpointError, DivergedError, NotLearningError.
    """
    params = trial.spec.params(TrainingParams)
    batch_size = max(2, int(params.batch_size * trial.batch_scale))
    ranks = current()
    if batch_size < 2 * ranks.count:
        raise ValueError(
            f"batch_size: {batch_size} on {ranks.count} ranks leaves one image per rank, too few for batch norm; "
            f"use at least {2 * ranks.count}"
        )
    dataset = Dataset.open(trial.dataset)
    batches = TrainBatches(
        dataset,
        batch_size=batch_size,
        recipe=params.augment(trial.spec.dataset),
        device=torch.device(trial.device),
        seed=trial.seed,
        share=(ranks.rank, ranks.count),
        normalization=(trial.spec.dataset.mean, trial.spec.dataset.std),
    )
    steps = max(1, round(epochs * batches.steps_per_epoch))
    # In proportion, if a limit shortens the training.
    warmup = round(params.warmup_epochs / params.epochs * steps)
    learning_guard = None if predict is None else _guard(trial, dataset, predict, steps, warmup)
    training = _Training(
        trial=trial,
        reporter=reporter,
        network=network,
        batches=batches,
        passes=passes,
        steps=steps,
        warmup=warmup,
        batch_size=batch_size,
        early_stopping=early_stopping,
        guard=learning_guard,
        initialize=initialize,
    )
    done, stop = training.run()
    outputs = {"steps": done, "epochs": done / batches.steps_per_epoch, "batch_size": batch_size}
    restarted = {"restarts": training.restarts} if training.restarts else {}
    return outputs | training.facts | restarted, stop


@dataclass(kw_only=True)
class _Training:
    """One training: its first attempt and, if that does not learn, another with a lower learning rate."""

    trial: Trial
    reporter: Reporter
    network: nn.Module
    batches: TrainBatches
    passes: Passes
    steps: int
    warmup: int
    batch_size: int
    early_stopping: EarlyStopping | None
    guard: Guard | None
    initialize: Callable[[], dict[str, Any]] | None
    restarts: int = field(default=0, init=False)
    facts: dict[str, Any] = field(default_factory=dict, init=False)
    """Return value of `initialize`."""
    _not_learning: bool = field(default=False, init=False)
    _ranks: Ranks = field(default_factory=current, init=False)

    @property
    def _params(self) -> TrainingParams:
        return self.trial.spec.params(TrainingParams)

    @cached_property
    def _identity(self) -> str:
        return _identity(self.trial, self.steps)

    def run(self) -> tuple[int, Stop]:
        """Train to the end; returns the steps done and why it ended early."""
        untrained = None
        if self.guard is not None:
            untrained = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        resumed = self.trial.checkpoint
        if resumed is not None and state.is_outdated(resumed):
            sys.stderr.write("the checkpoint is from an earlier version: restarting the training\n")
            resumed = None
        if resumed is None:
            self._begin()
        while True:
            try:
                done, stop = self._attempt(resumed)
            except loop.DivergedError:
                if untrained is None or self.restarts:
                    raise
            else:
                if not self._not_learning:
                    return done, stop
                if self.restarts:
                    raise NotLearningError(
                        f"the training learned nothing beyond the class frequencies in {done} steps, even at "
                        f"learning_rate {self._rate:g}: check the labels, lower learning_rate, or start from "
                        "trained weights (start)"
                    )
            resumed, self._not_learning, self.restarts = None, False, 1
            self.reporter.metric("restarts", 0, self.restarts)
            assert untrained is not None
            self.network.load_state_dict(untrained)
            if self.early_stopping is not None:
                self.early_stopping.restart()
            self._begin()
            sys.stderr.write(f"the training does not learn: restarting at learning_rate {self._rate:g}\n")

    @property
    def _rate(self) -> float:
        scaled = self._params.learning_rate * self.batch_size / self._params.batch_size
        return scaled * RETRY_RATE**self.restarts

    def _begin(self) -> None:
        if self.initialize is not None:
            self.facts = self.initialize()
        buffers = (buffer for buffer in self.network.buffers() if buffer.is_floating_point())
        self._ranks.broadcast([*self.network.parameters(), *buffers])

    def _attempt(self, resumed: Path | None) -> tuple[int, Stop]:
        params, device = self._params, torch.device(self.trial.device)
        convert_conv2d_weight_memory_format(self.network, torch.channels_last)
        self.network.train()
        weights = TrainState(
            network=self.network,
            optimizer=sgd(
                self.network,
                learning_rate=self._rate,
                momentum=params.momentum,
                weight_decay=params.weight_decay,
                decay=params.decay,
                backbone_rate=params.backbone_rate,
            ),
            scaler=grad_scaler(autocast_dtype(params.precision, device), device),
            average=ExponentialMovingAverage(self.network, params.ema_decay) if params.ema_decay else None,
            clip_norm=params.clip_norm,
        )
        start = 0
        if resumed is not None:
            start, notes = state.restore(resumed, weights, identity=self._identity)
            self.restarts, self.facts = notes["restarts"], notes["facts"]
            if self.early_stopping is not None:
                self.early_stopping.notes = notes["judge"]
            sys.stderr.write(f"resuming from step {start} of {self.steps}\n")

        def save(step: int) -> None:
            folder = self.trial.work / f"checkpoint-{step}"
            stopping_notes = {} if self.early_stopping is None else self.early_stopping.notes
            notes = {"judge": stopping_notes, "restarts": self.restarts, "facts": self.facts}
            state.save(folder, weights, step=step, identity=self._identity, notes=notes)
            self.reporter.checkpoint(folder, step)

        done, stop = loop.train(
            loop.Schedule(
                steps=self.steps,
                peak=self._rate,
                lr_schedule=params.schedule,
                warmup=self.warmup,
                start=start,
                checkpoint_seconds=self.trial.checkpoint_seconds,
            ),
            self.batches.from_step(start),
            accumulate_gradients(
                self.passes,
                parts=min(params.accumulation, self.batch_size // self._ranks.count // 2),
                batch_size=self.batch_size,
                scaler=weights.scaler,
            ),
            weights,
            self.reporter,
            save,
            self._ranks,
            self._should_stop,
        )
        if stop not in (Stop.CANCEL, Stop.DRAIN) and not self._not_learning:
            weights.finish()
        return done, stop

    def _should_stop(self, step: int) -> bool:
        if self.guard is not None and self.guard.due(step):
            failed = self._ranks.rank == 0 and self.guard.should_stop(step)
            self._not_learning = self._ranks.agree(Stop.LIMIT if failed else Stop.NO) is not Stop.NO
            if self._not_learning:
                return True
        return self.early_stopping is not None and self.early_stopping.should_stop(step, self.steps)


def _guard(trial: Trial, dataset: Dataset, predict: Predict, steps: int, warmup: int) -> Guard | None:
    """None for a training that is too short to be checked."""
    profile = trial.spec.dataset
    if steps < guard.LEAST_STEPS:
        return None
    rows = guard.sample(dataset.split("train").labels, len(profile.classes), trial.spec.seed)
    framed = list(
        evaluation_batches(
            dataset,
            "train",
            trial.spec.params(TrainingParams).preprocessing(profile),
            batch_size=guard.IMAGES,
            device=trial.device,
            rows=rows,
        )
    )
    batch = Batch(torch.cat([each.images for each in framed]), torch.cat([each.labels for each in framed]))
    return Guard(predict, batch, steps, warmup, len(profile.classes))


def _identity(trial: Trial, steps: int) -> str:
    """Hash of everything that a checkpoint and the trial that resumes it must have in common."""
    method, dataset = trial.spec.method.model_dump_json(), trial.spec.dataset.fingerprint
    what = json.dumps(trial.params, sort_keys=True)
    described = f"{method} {dataset} {what} {trial.seed} {steps} {trial.batch_scale:g}"
    return hashlib.sha256(described.encode()).hexdigest()
