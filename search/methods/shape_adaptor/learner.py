"""Training step with a learned shape: updates the alphas at intervals, and the weights at every step.

Source: Liu et al. (arXiv 2008.00892), section 3.3. The alphas have their own pass on the batch before the weights.
Running statistics are not kept in training, so no pass changes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.families.shapes import Shape
from paretofit.models.layers.shape_adaptor import Adaptive
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Reporter
from paretofit.search.data.loader import Batch
from paretofit.search.data.sampling import resize
from paretofit.search.methods.shape_adaptor import budget
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.training import standalone
from paretofit.search.training.distributed import current
from paretofit.search.training.loop import cosine
from paretofit.search.training.step import Scale, autocast_dtype

MOMENTUM: Final = 0.9
_HALF_SCALE: Final = 1024.0
"""Loss scale for the gradients of the alphas in float16, which would underflow."""


class Learner(nn.Module):
    """A network in training and the momentum of its alphas; an `EarlyStopping` (`training.trainer`) that never stops.

    Its notes hold the history of the shape, an entry for each change of a size. `steps` is the length of the training.
    When the shape is fixed, it is adjusted to the target and the constraints.
    """

    velocity: Tensor

    def __init__(
        self, network: Adaptive, spec: ResolvedSpec, config: Mapping[str, Any], steps: int, reporter: Reporter
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("velocity", torch.zeros_like(network.alpha))
        params = spec.params(ShapeAdaptorParams)
        self._params, self._spec, self._config = params, spec, config
        self._reporter = reporter
        self._steps = steps
        self._settles = max(1, round(params.settle * steps))
        # In compression the target is an upper bound, like a constraint.
        self._grows = config["target"] > 0 and config["mode"] != "autosc"
        self._most = budget.macs(spec, config)
        self.notes: dict[str, Any] = {}
        self.restart()

    def restart(self) -> None:
        """The history of the shape begins with that of the untrained alphas."""
        self._learned = -1
        self.notes = {"history": [], "settled": False}
        self._note(0)

    def logits(self, images: Tensor) -> Tensor:
        """[batch, classes] of images of the dataset's size."""
        return standalone.logits(self.network, self._params, self.network.rule.size, images)

    def passes(self, index: int, batch: Batch, scale: Scale) -> dict[str, Tensor]:
        """Add the gradients of step `index`; returns its loss. In a step with several parts the first one updates the
        alphas."""
        due = (index + 1) % self._params.alpha_interval == 0 and not self.notes["settled"]
        if due and index != self._learned:
            self._learned = index
            self._learn(index, batch)
        return standalone.step(self.network, self._params, self.network.rule.size, index, batch, scale)

    def should_stop(self, step: int, steps: int) -> bool:
        """Never stops the training; freezes the shape when it is due."""
        del steps
        if step >= self._settles and not self.notes["settled"]:
            self.settle(step)
        return False

    def settle(self, step: int) -> None:
        """Fix the shape for the rest of the training, within its target and the constraints. Raises TooCostlyError."""
        self.notes["settled"] = True
        rule, alphas = self.network.rule, self.network.alpha.tolist()
        fits = budget.fits(self._spec, self._config, rule)
        if self._grows or not fits(self.network.sizes):
            self.network.settle(rule.fitted(alphas, fits, grows=self._grows), _agree)
        self._note(step)

    def loss(self, images: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        """The alpha loss: cross-entropy plus penalty * log^2(cost / target), which is differentiable. For an upper
        bound the penalty applies only above the target."""
        dtype = autocast_dtype(self._params.precision, images.device)
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            logits = self.network(images, alpha)
        loss = F.cross_entropy(logits.to(images.dtype), labels, label_smoothing=self._params.label_smoothing)
        if self._most is None:
            return loss
        over = (self.network.macs(alpha) / self._most).log()
        return loss + self._params.penalty * (over if self._grows else over.clamp(min=0)).square()

    @torch.no_grad()
    def move(self, gradient: Tensor, index: int, *, skips: bool) -> None:
        """Update the alphas by their gradient [adaptors] at step `index`. `skips`: a gradient that is not finite is an
        overflow of the scaled loss and changes nothing, including the momentum. Does not synchronize the host."""
        rate = cosine(self._params.alpha_learning_rate, index, self._steps)
        velocity = MOMENTUM * self.velocity + gradient
        alpha = self.network.alpha - rate * (gradient + MOMENTUM * velocity)
        if skips:
            finite = gradient.isfinite().all()
            velocity, alpha = (
                torch.where(finite, velocity, self.velocity),
                torch.where(finite, alpha, self.network.alpha),
            )
        self.velocity.copy_(velocity)
        self.network.alpha.copy_(alpha)

    def _learn(self, index: int, batch: Batch) -> None:
        """Update the alphas and plan the sizes: synchronizes the host with the device once."""
        images = resize(batch.images, self.network.rule.size, antialias=self._params.antialias)
        images = images.contiguous(memory_format=torch.channels_last)
        half = autocast_dtype(self._params.precision, images.device) is torch.float16
        scale = _HALF_SCALE if half else 1.0
        alpha = self.network.alpha.detach().clone().requires_grad_()
        loss = self.loss(images, batch.labels, alpha) * scale
        (gradient,) = torch.autograd.grad(loss, [alpha])
        ranks = current()
        ranks.all_reduce([gradient])
        self.move(gradient / (scale * ranks.count), index, skips=half)
        ranks.broadcast([self.network.alpha])
        before = self.network.sizes
        alphas = self.network.plan(_agree)
        if self.network.sizes != before:
            self._note(index, alphas)

    def _note(self, step: int, alphas: list[float] | None = None) -> None:
        network = self.network
        shape = network.shape() if alphas is None else Shape(network.sizes, network.rule.shape(alphas).blends)
        macs = network.rule.macs(shape.sizes)
        self.notes["history"].append({"step": step, "sizes": shape.sizes, "blends": shape.blends, "macs": macs})
        self._reporter.metric("shape_macs", step, macs)
        for i, (height, _) in enumerate(shape.sizes):
            self._reporter.metric(f"side_{i}", step, height)


def _agree(sides: Tensor) -> None:
    """Broadcast the sizes of rank 0."""
    current().broadcast([sides])
