"""What a training changes and must restore: parameters, momentum, the scale of float16's gradients, the average."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from paretofit.search.training.average import Average


def _no_scaler() -> GradScaler:
    return GradScaler("cpu", enabled=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A network in training. Gradients are added to by backward passes of `scaler.scale(loss)`."""

    network: nn.Module
    optimizer: SGD
    scaler: GradScaler = field(default_factory=_no_scaler)
    average: Average | None = None
    clip_norm: float = 0.0
    """Norm that the gradient of all parameters is limited to; 0: no limit."""

    def update(self, step: int) -> None:
        """Step `step`, which counts from 0, by the gradients that are there. The host does not wait: whether float16
        overflowed, so that nothing is changed, is decided on the device."""
        if self.clip_norm:
            # Without this the scaled gradients of float16 would be clipped; otherwise it does nothing.
            self.scaler.unscale_(self.optimizer)
            parameters = [p for p in self.network.parameters() if p.grad is not None]
            nn.utils.clip_grad_norm_(parameters, self.clip_norm, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(step)

    def finish(self) -> None:
        """Give the network the parameters that it is to be evaluated with."""
        if self.average is not None:
            self.average.to_network()
