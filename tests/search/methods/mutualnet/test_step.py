"""The training step, compared with a plain float64 implementation of the published one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.data.loader import Batch
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.train import Draw, draw, step
from paretofit.search.training.loop import cosine, set_learning_rate, sgd

LAYERS = 11
STRIDES = (1, 1, 1, 1, 2, 1, 2, 1, 1, 1, 1, 1)
"""Strides of the stem and the blocks at 16 pixels: two of the five downsamplings remain."""
SEED, STEPS, PEAK, MOMENTUM, DECAY = 5, 5, 0.05, 0.9, 0.01


@pytest.fixture
def method(method: dict[str, Any]) -> dict[str, Any]:
    """The small search for FD-MobileNet."""
    return method | {"family": "fd_mobilenet", "base_width": 0.125}


def narrowed(base: int, width: float) -> int:
    """The nearest multiple of 8, at least 8, at least 0.9 of the exact value, at most the base."""
    exact = base * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return min(base, rounded + 8 if rounded < 0.9 * exact else rounded)


def normalized(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    channels = x.shape[1]
    scaled = (x - mean) / torch.sqrt(variance + 1e-5) * weight[:channels].view(1, -1, 1, 1)
    return torch.relu(scaled + bias[:channels].view(1, -1, 1, 1))


def logits(p: dict[str, Tensor], x: Tensor, width: float) -> Tensor:
    """FD-MobileNet with leading slices of the full network's parameters."""
    stem = p["blocks.0.conv.weight"]
    channels = narrowed(len(stem), width)
    x = F.conv2d(x, stem[:channels], stride=STRIDES[0], padding=1)
    x = normalized(x, p["blocks.0.norm.weight"], p["blocks.0.norm.bias"])
    for i in range(1, LAYERS + 1):
        name = f"blocks.{i}"
        depthwise, pointwise = p[f"{name}.depthwise.conv.weight"], p[f"{name}.pointwise.conv.weight"]
        x = F.conv2d(x, depthwise[:channels], stride=STRIDES[i], padding=1, groups=channels)
        x = normalized(x, p[f"{name}.depthwise.norm.weight"], p[f"{name}.depthwise.norm.bias"])
        out = narrowed(len(pointwise), width)
        x = F.conv2d(x, pointwise[:out, :channels])
        x = normalized(x, p[f"{name}.pointwise.norm.weight"], p[f"{name}.pointwise.norm.bias"])
        channels = out
    return x.mean((2, 3)) @ p["blocks.12.linear.weight"][:, :channels].T + p["blocks.12.linear.bias"]


def resized(x: Tensor, side: int) -> Tensor:
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=True)


def published_step(p: dict[str, Tensor], batch: Batch, subs: list[Draw]) -> tuple[Tensor, Tensor]:
    """One backward pass through the sum of all losses."""
    full = logits(p, batch.images, 1.0)
    cross_entropy = F.nll_loss(full.log_softmax(1), batch.labels)
    target = full.softmax(1).detach()
    distilled = torch.zeros((), dtype=torch.float64)
    for sub in subs:
        assert isinstance(sub.width, float)
        log_q = logits(p, resized(batch.images, sub.resolution), sub.width).log_softmax(1)
        distilled = distilled + (target * (target.log() - log_q)).sum(1).mean()
    torch.autograd.backward(cross_entropy + distilled)
    return cross_entropy, distilled


def test_losses_gradients_and_weights_equal_the_published_step(spec: ResolvedSpec) -> None:
    torch.manual_seed(0)
    params, profile = spec.params(SlimmableParams), spec.dataset
    network = Slimmable(params.architecture(profile)).double().train()
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    optimizer = sgd(network, learning_rate=PEAK, momentum=MOMENTUM, weight_decay=DECAY, decay="dense")
    plain = {name: p.detach().clone().requires_grad_() for name, p in network.network.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in plain.items()}
    for index in range(STEPS):
        batch = Batch(torch.randn(12, 1, 16, 16, dtype=torch.float64), torch.randint(0, 3, (12,)))
        rate = cosine(PEAK, index, STEPS)
        set_learning_rate(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        losses = step(network, params, profile, SEED, index, batch)

        subs = draw(SEED, index, widths=(0.5, 1.0), resolutions=(16, 12), random_widths=2)
        cross_entropy, distilled = published_step(plain, batch, subs)
        assert losses["loss"].item() == pytest.approx(cross_entropy.item(), rel=1e-8)
        assert losses["distillation_loss"].item() == pytest.approx(distilled.item(), rel=1e-7)
        for name, parameter in network.network.named_parameters():
            torch.testing.assert_close(parameter.grad, plain[name].grad, rtol=1e-6, atol=1e-8)

        optimizer.step()
        with torch.no_grad():
            for name, p in plain.items():
                assert p.grad is not None
                dense = p.dim() > 1 and ".depthwise." not in name
                gradient = p.grad + DECAY * p if dense else p.grad
                velocity[name].mul_(MOMENTUM).add_(gradient)
                p -= rate * (gradient + MOMENTUM * velocity[name])
                p.grad = None
    for name, parameter in network.network.named_parameters():
        torch.testing.assert_close(parameter.detach(), plain[name].detach(), rtol=1e-6, atol=1e-8)


def test_training_does_not_keep_statistics(spec: ResolvedSpec) -> None:
    params, profile = spec.params(SlimmableParams), spec.dataset
    network = Slimmable(params.architecture(profile)).train()
    before = {name for name, _ in network.named_buffers()}
    step(network, params, profile, 0, 0, Batch(torch.randn(8, 1, 16, 16), torch.arange(8) % 3))
    assert {name for name, _ in network.named_buffers()} == before
    assert not network.bank
