"""The state of a training, and its checkpoints on disk.

A checkpoint is safetensors + JSON. The manifest is written last, so a folder with a manifest is complete. The position
in the data and all random draws are functions of (seed, step), so only the step has to be saved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD


class ExponentialMovingAverage:
    """Exponential moving average of `network`'s parameters, on their device.

    Source: Polyak & Juditsky 1992, in the form of Tan & Le, EfficientNet (arXiv 1905.11946): the decay grows with the
    steps, min(`decay`, (1 + step) / (10 + step)), so that the first weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._network = network
        self.tensors: dict[str, Tensor] = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the parameters after step `step`, which counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = [parameter.detach() for parameter in self._network.parameters()]
        torch._foreach_lerp_(list(self.tensors.values()), parameters, 1 - decay)

    @torch.no_grad()
    def to_network(self) -> None:
        """Copy the average to the network's parameters."""
        for name, parameter in self._network.named_parameters():
            parameter.copy_(self.tensors[name])


def _no_scaler() -> GradScaler:
    return GradScaler("cpu", enabled=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """A network in training. Backward passes of `scaler.scale(loss)` accumulate gradients."""

    network: nn.Module
    optimizer: SGD
    scaler: GradScaler = field(default_factory=_no_scaler)
    average: ExponentialMovingAverage | None = None
    clip_norm: float = 0.0
    """Maximum norm of the gradient of all parameters; 0: no limit."""

    def update(self, step: int) -> None:
        """Update by the accumulated gradients at step `step`, which counts from 0. Does not synchronize the host:
        float16 overflows, which skip the update, are handled on the device."""
        if self.clip_norm:
            # Otherwise the scaled gradients of float16 would be clipped; no effect for other types.
            self.scaler.unscale_(self.optimizer)
            parameters = [p for p in self.network.parameters() if p.grad is not None]
            nn.utils.clip_grad_norm_(parameters, self.clip_norm, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(step)

    def finish(self) -> None:
        """Set the network's parameters to those for evaluation."""
        if self.average is not None:
            self.average.to_network()


MANIFEST = "manifest.json"
STATE = "state.safetensors"
VERSION = 4


class CheckpointError(ValueError):
    """The folder does not hold a checkpoint of this training."""


def save(folder: Path, weights: TrainState, *, step: int, identity: str, notes: Mapping[str, Any]) -> None:
    """Write a checkpoint of `step` finished steps into a new folder. `identity` names the training and must match on
    restore. `notes` are JSON."""
    folder.mkdir(parents=True)
    tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in weights.network.state_dict().items()}
    tensors["rng"] = torch.get_rng_state()
    for name, parameter in weights.network.named_parameters():
        momentum = weights.optimizer.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    if weights.average is not None:
        tensors |= {f"average.{name}": value for name, value in weights.average.tensors.items()}
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, folder / STATE)
    with (folder / STATE).open("rb") as file:
        os.fsync(file.fileno())
    partial = folder / f"{MANIFEST}.partial"
    with partial.open("w", encoding="utf-8") as file:
        scaler = weights.scaler.state_dict()
        manifest = {"version": VERSION, "step": step, "identity": identity, "scaler": scaler, "notes": notes}
        json.dump(manifest, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / MANIFEST)


def is_outdated(folder: Path) -> bool:
    """Whether an earlier version of Paretofit wrote the checkpoint in a format that this one cannot read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    version = manifest.get("version") if isinstance(manifest, dict) else None
    return isinstance(version, int) and version < VERSION


def restore(folder: Path, weights: TrainState, *, identity: str) -> tuple[int, dict[str, Any]]:
    """Restore a training from a checkpoint, and return its step and its notes. Raises CheckpointError."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        state = load_file(folder / STATE)
    except (FileNotFoundError, json.JSONDecodeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} is an incomplete checkpoint ({error}): remove it to train from the start"
        ) from error
    if (manifest["version"], manifest["identity"]) != (VERSION, identity):
        raise CheckpointError(f"{folder} is a checkpoint of another training: remove it to train from the start")
    weights.network.load_state_dict(_part(state, "network."))
    momentum = _part(state, "momentum.")
    for name, parameter in weights.network.named_parameters():
        if name in momentum:
            buffer = torch.empty_like(parameter, memory_format=torch.preserve_format)
            weights.optimizer.state[parameter]["momentum_buffer"] = buffer.copy_(momentum[name])
    if weights.average is not None:
        for name, value in _part(state, "average.").items():
            weights.average.tensors[name].copy_(value)
    weights.scaler.load_state_dict(manifest["scaler"])
    torch.set_rng_state(state["rng"])
    return manifest["step"], manifest["notes"]


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
