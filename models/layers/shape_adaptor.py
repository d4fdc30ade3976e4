"""Shape adaptors: resizing layers of any size (Liu et al., Shape Adaptor, ECCV 2020, arXiv 2008.00892)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.blocks import activation
from paretofit.models.build import module
from paretofit.models.families.shapes import HIGH, LOW, Rule, Shape, Sizes, shaped
from paretofit.models.finite import NonFiniteError
from paretofit.models.kinds import shape_adaptor
from paretofit.models.layers.slimmable import Slimmable
from paretofit.models.trace import Size


class Chain(nn.Sequential):
    """[N, C, H, W] -> [N, C', H', W']: blocks in sequence."""

    def __init__(self, block: shape_adaptor.Chain) -> None:
        super().__init__(*map(module, block.blocks))


class Resize(nn.Module):
    """[N, C, h, w] -> [N, C, H, W]: bilinear with aligned corners."""

    def forward(self, x: Tensor, size: Size) -> Tensor:
        # Traces cannot compare sizes, and resizing to the same size is the identity.
        if not cast("Any", torch.jit).is_tracing() and (x.shape[-2], x.shape[-1]) == size:
            return x
        return F.interpolate(x, size, mode="bilinear", align_corners=True)


class ShapeAdaptor(nn.Module):
    """[N, C, H, W] -> [N, C', h, w]: the halved and the kept input, blended at the size between them.

    `size` and `blend` can be changed between passes; a scalar tensor `blend` gets gradients. Does not synchronize the
    host.
    """

    def __init__(self, block: shape_adaptor.ShapeAdaptor) -> None:
        super().__init__()
        self.size: Size = block.size
        self.blend: float | Tensor = block.blend
        self.gain = 2.0 if block.residual else 1.0
        self.keeps, self.downs = block.blend > 0, block.blend < 1
        self.keep = module(block.keep) if block.keep is not None and self.keeps else nn.Identity()
        self.down = module(block.down) if self.downs else nn.Identity()
        self.resize_keep, self.resize_down = Resize(), Resize()
        self.act = activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        if not self.downs:
            out = self.resize_keep(self.keep(x), self.size)
        elif not self.keeps:
            out = self.resize_down(self.down(x), self.size)
        else:
            kept, down = self.resize_keep(self.keep(x), self.size), self.resize_down(self.down(x), self.size)
            out = self._blended(down, kept)
        activated: Tensor = self.act(out if self.gain == 1 else self.gain * out)
        return activated

    def _blended(self, down: Tensor, kept: Tensor) -> Tensor:
        """(1 - blend) x down + blend x kept; in training in one pass over memory."""
        blend = self.blend
        if isinstance(blend, Tensor):
            # Under autocast the maps are in half precision, but the blend is not.
            blend = blend.to(down.dtype)
        if self.training:
            return torch.lerp(down, kept, blend)
        # In operations that every runtime supports.
        return (1 - blend) * down + blend * kept


class Adaptive(nn.Module):
    """A network whose shape adaptors have alphas, from which a rule computes sizes and blends.

    Sizes are planned on the host (`plan`) after the alphas change; a pass uses them unchanged, and the blends as
    tensors. Images [N, C, H, W] of the rule's size -> logits [N, classes]. For training; `frozen` gives the network for
    evaluation. `state_dict` contains the sizes beside the alphas, because they also depend on earlier alphas.
    """

    alpha: Tensor
    blend: Tensor
    sides: Tensor

    def __init__(self, rule: Rule, alpha: float, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.rule = rule
        count = rule.count
        self.slimmable = Slimmable(rule.network, device)
        # Buffers, so that the optimizer of the weights ignores them.
        self.register_buffer("alpha", torch.full((count,), alpha, device=device))
        self.register_buffer("blend", torch.empty(count, device=device))
        self.register_buffer("sides", torch.zeros(count, 2, dtype=torch.int64, device="cpu"))
        # torch's own signature is untyped.
        cast("Any", self).register_load_state_dict_post_hook(lambda adaptive, _: adaptive._set())
        self.plan()

    @property
    def adaptors(self) -> list[ShapeAdaptor]:
        """From input to output."""
        return [module for module in self.slimmable.network.blocks if isinstance(module, ShapeAdaptor)]

    @property
    def sizes(self) -> Sizes:
        """The current sizes."""
        return tuple((height, width) for height, width in self.sides.tolist())

    def forward(self, x: Tensor, alpha: Tensor | None = None) -> Tensor:
        """With `alpha` [adaptors] the blends are computed from it, so that it gets gradients."""
        blends = self.blend if alpha is None else self.blends(alpha)
        for adaptor, blend in zip(self.adaptors, blends.unbind(), strict=True):
            adaptor.blend = blend
        logits: Tensor = self.slimmable(x)
        return logits

    def factors(self, alpha: Tensor) -> Tensor:
        """Factors s [adaptors] of alphas, under the rule's limit, whose ratio is treated as a constant."""
        factors = LOW + (HIGH - LOW) * alpha.sigmoid()
        if self.rule.limit is None:
            return factors
        last = min(self.rule.size) * factors.detach().prod()
        return factors * (self.rule.limit / last).pow(1 / len(factors)).clamp(max=1)

    def blends(self, alpha: Tensor) -> Tensor:
        """sigma [adaptors] of alphas."""
        if self.rule.limit is None:
            return alpha.sigmoid()
        return ((self.factors(alpha) - LOW) / (HIGH - LOW)).clamp(0, 1)

    def macs(self, alpha: Tensor) -> Tensor:
        """Multiply-accumulates as a differentiable function of alphas, with sizes as real numbers."""
        shares, fixed = self.rule.shares
        before = torch.cat([alpha.new_ones(1), self.factors(alpha).square().cumprod(0)])
        # Scalars, because a tensor of them would have to be sent to the device.
        return fixed + torch.stack([share * scale for share, scale in zip(shares, before.unbind(), strict=True)]).sum()

    @torch.no_grad()
    def plan(self, agree: Callable[[Tensor], object] | None = None) -> list[float]:
        """Compute sizes and blends from the alphas, which are returned. Reads all alphas at once: the only
        synchronization with the device. `agree` may replace the sizes (int64, on the CPU) by those of another rank.

        Raises NonFiniteError for alphas that are not finite.
        """
        before = self.sizes
        alphas = self.alpha.to("cpu", copy=True).tolist()
        if not all(map(math.isfinite, alphas)):
            raise NonFiniteError(f"the alphas of the shape adaptors diverged: {alphas}; lower alpha_learning_rate")
        self.sides.copy_(torch.tensor(self.rule.sizes(alphas, before if any(map(any, before)) else None)))
        if agree is not None:
            agree(self.sides)
        self.blend.copy_(self.blends(self.alpha))
        self._set()
        return alphas

    @torch.no_grad()
    def settle(self, shape: Shape, agree: Callable[[Tensor], object] | None = None) -> None:
        """Set sizes and blends to those of a shape, until the next `plan`."""
        self.sides.copy_(torch.tensor(shape.sizes))
        if agree is not None:
            agree(self.sides)
        self.blend.copy_(torch.tensor(shape.blends))
        self._set()

    def shape(self) -> Shape:
        """The current sizes and blends."""
        return Shape(self.sizes, tuple(self.blend.tolist()))

    @torch.no_grad()
    def frozen(self, shape: Shape | None = None) -> Slimmable:
        """The static network with the current sizes and blends, or those of a `shape`, and with copies of the weights;
        branches without a share are left out."""
        made = Slimmable(shaped(self.rule.network, shape or self.shape()), self.alpha.device)
        weights = dict(self.slimmable.network.named_parameters())
        for name, parameter in made.network.named_parameters():
            parameter.copy_(weights[name])
        return made

    def _set(self) -> None:
        for adaptor, size in zip(self.adaptors, self.sizes, strict=True):
            adaptor.size = size
