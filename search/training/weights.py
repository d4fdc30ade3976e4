"""What a training changes and must restore: parameters, momentum, the scale of float16's gradients, the average."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from search.training.average import Average


def _no_scaler() -> GradScaler:
    return GradScaler("cpu", enabled=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A network in training. Gradients are added to by backward passes of `scaler.scale(loss)`."""

    network: nn.Module
    optimizer: SGD
    scaler: GradScaler = field(default_factory=_no_scaler)
    average: Average | None = None

    def update(self, step: int) -> None:
        """Step `step`, which counts from 0, by the gradients that are there. The host does not wait: whether float16
        overflowed, so that nothing is changed, is decided on the device."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(step)

    def finish(self) -> None:
        """Give the network the parameters that it is to be evaluated with."""
        if self.average is not None:
            self.average.to_network()
