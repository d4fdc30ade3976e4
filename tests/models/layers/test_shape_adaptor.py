"""Shape adaptors: the published formula, gradients, absence of device syncs, and the frozen static network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from paretofit.models.families.adaptors import adapted
from paretofit.models.families.registry import architecture
from paretofit.models.families.shapes import Rule, Shape, initial_alpha
from paretofit.models.kinds.pooling import MaxPool
from paretofit.models.kinds.shape_adaptor import ShapeAdaptor as Block
from paretofit.models.layers.shape_adaptor import Adaptive, ShapeAdaptor
from tests.models.layers.device_syncs import device_syncs

SIZE = (32, 24)


def narrow(family: str = "vgg16", count: int = 4, limit: int | None = None) -> Rule:
    human = architecture(family, nominal=32, classes=10, base_width=0.125)
    return Rule(adapted(human, count), SIZE, limit=limit)


def images(batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def published(down: Tensor, keep: Tensor, alpha: Tensor) -> Tensor:
    """The authors' module as listed in the paper, with a 2x2 max-pool as the halved branch."""
    sigma = torch.sigmoid(alpha)
    s = 0.5 * sigma.item() + 0.5
    first = F.interpolate(down, scale_factor=s / 0.5, mode="bilinear", align_corners=True)
    second = F.interpolate(keep, size=first.shape[-2:], mode="bilinear", align_corners=True)
    return (1 - sigma) * first + sigma * second


@pytest.mark.parametrize("value", [-1.5, 0.0, 0.8])
def test_equals_the_published_module(value: float) -> None:
    x = torch.randn(2, 5, 32, 24, generator=torch.Generator().manual_seed(1))
    expected_alpha, alpha = (torch.tensor(value, requires_grad=True) for _ in range(2))
    expected = published(F.max_pool2d(x, 2), x, expected_alpha)
    height, width = expected.shape[-2:]
    module = ShapeAdaptor(Block(5, 5, height, width, 0.5, False, "none", MaxPool(5, 5, 2, 2), None))
    module.blend = alpha.sigmoid()
    # The authors interpolate by a scale factor, for which torch uses another sampling grid than for a size.
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    torch.autograd.backward([(module(x) * weight).sum(), (expected * weight).sum()])
    torch.testing.assert_close(alpha.grad, expected_alpha.grad, rtol=1e-4, atol=1e-4)


def test_residual_adaptor_sums_its_branches() -> None:
    """2 (1 - sigma) x shortcut + 2 sigma x F(x): at a half, their sum."""
    block = Block(4, 4, 6, 5, 0.5, True, "relu", MaxPool(4, 4, 1, 2), None)
    x = torch.randn(2, 4, 6, 5)
    shortcut = F.interpolate(x[..., ::2, ::2], (6, 5), mode="bilinear", align_corners=True)
    torch.testing.assert_close(ShapeAdaptor(block)(x), (x + shortcut).relu())


@pytest.mark.parametrize("family", ["vgg16", "resnet18", "mobilenet_v2", "wrn_10_1", "shufflenet_v1"])
def test_frozen_equals_unfrozen(family: str) -> None:
    torch.manual_seed(0)
    width, base_width = (0.25, 1.0) if family == "shufflenet_v1" else (1.0, 0.125)
    human = architecture(family, nominal=32, classes=10, width=width, base_width=base_width)
    network = Adaptive(Rule(adapted(human, 3), SIZE), -0.3464)
    network.alpha += torch.tensor([1.0, 0.0, -1.0])
    network.plan()
    frozen = network.frozen()
    expected = network(images())
    assert (frozen(images()) - expected).abs().max() <= 1e-6
    with torch.no_grad():
        frozen.calibrate(frozen.architecture, [images()])
        static = frozen.extract(frozen.architecture, SIZE)
        # Normalized by the same batch, except for the unbiased variance.
        assert (static.train()(images()) - expected).abs().max() <= 1e-6


def test_branches_with_zero_blend_are_removed() -> None:
    torch.manual_seed(0)
    network = Adaptive(narrow("resnet18", 3), 0.0)
    network.settle(Shape(((20, 16), (12, 10), (9, 7)), (1.0, 0.0, 0.4)))
    frozen = network.frozen()
    assert (frozen(images()) - network(images())).abs().max() <= 1e-6
    assert sum(p.numel() for p in frozen.parameters()) < sum(p.numel() for p in network.parameters())


def test_alpha_gradients_equal_finite_differences() -> None:
    torch.manual_seed(0)
    network = Adaptive(narrow(), 0.2)
    alpha = network.alpha.double().requires_grad_()
    network.double()
    x = images().double()
    (gradient,) = torch.autograd.grad(network(x, alpha).square().sum(), [alpha])
    step = 1e-7  # So small that it rarely crosses a kink of an activation.
    for at in range(len(alpha)):
        ends = []
        for sign in (1, -1):
            moved = alpha.detach().clone()
            moved[at] += sign * step
            ends.append(network(x, moved).square().sum().item())
        assert gradient[at].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-3)


def test_macs_follow_the_sizes_and_are_differentiable() -> None:
    network = Adaptive(narrow(), initial_alpha(32, 8, 4))
    alpha = network.alpha.clone().requires_grad_()
    macs = network.macs(alpha)
    shares, fixed = network.rule.shares
    ratio = (8 / 32) ** (2 / 4)
    assert macs.item() == pytest.approx(fixed + sum(share * ratio**i for i, share in enumerate(shares)), rel=1e-3)
    torch.autograd.backward(macs)
    assert alpha.grad is not None
    # The first adaptor shrinks all later maps.
    assert alpha.grad[0] > alpha.grad[1] > alpha.grad[2] > alpha.grad[3] > 0
    full_size = Adaptive(narrow(), 12.0)
    assert full_size.macs(full_size.alpha).item() == pytest.approx(full_size.rule.macs((SIZE,) * 4), rel=1e-3)


@pytest.mark.parametrize("limit", [None, 6])
def test_device_blends_equal_host_blends(limit: int | None) -> None:
    network = Adaptive(narrow(limit=limit), 0.0)
    network.alpha.copy_(torch.tensor([3.0, 1.0, -1.0, -3.0]))
    network.plan()
    planned = network.rule.shape(network.alpha.tolist())
    assert network.shape().sizes == planned.sizes
    assert network.shape().blends == pytest.approx(planned.blends, abs=1e-6)


@pytest.mark.parametrize("limit", [None, 6])
def test_passes_have_no_device_sync(limit: int | None) -> None:
    """On the meta device, reading a tensor value raises."""
    network = Adaptive(narrow(limit=limit), 0.0)

    def passes() -> None:
        torch.autograd.backward(network(images()).sum())
        alpha = network.alpha.clone().requires_grad_()
        torch.autograd.backward(network(images(), alpha).sum() + network.macs(alpha))

    assert device_syncs(passes) == []
    assert device_syncs(network.plan) == ["_to_copy"]
    planned = network.sizes
    network.slimmable.to("meta")
    network.blend, network.alpha = network.blend.to("meta"), network.alpha.to("meta")
    batch = images().to("meta")
    torch.autograd.backward(network(batch).sum())
    alpha = network.alpha.clone().requires_grad_()
    torch.autograd.backward(network(batch, alpha).sum() + network.macs(alpha))
    assert network.sizes == planned


@pytest.mark.gpu
def test_cuda_passes_have_no_device_sync() -> None:
    network = Adaptive(narrow(), 0.0, "cuda")
    batch = images().cuda()
    torch.autograd.backward(network(batch).sum())
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.backward(network(batch).sum())
        alpha = network.alpha.clone().requires_grad_()
        torch.autograd.backward(network(batch, alpha).sum() + network.macs(alpha))
        with pytest.raises(RuntimeError, match="synchroniz"):
            network.plan()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_sizes_are_saved_with_the_alphas() -> None:
    """Sizes depend on earlier ones: a restored network continues identically."""
    first = Adaptive(narrow(count=1), 0.0)
    first.alpha.fill_(0.42)
    first.plan()
    before = first.sizes
    second = Adaptive(narrow(count=1), 0.0)
    second.load_state_dict(first.state_dict())
    assert second.sizes == before
    assert [adaptor.size for adaptor in second.adaptors] == list(before)
    torch.testing.assert_close(second(images()), first(images()), rtol=0, atol=0)


def test_sizes_planned_by_another_rank_are_applied() -> None:
    network = Adaptive(narrow(count=1), 0.0)
    planned = network.sizes
    network.plan(lambda sides: sides.fill_(7))
    assert network.sizes == ((7, 7),) != planned
    assert network.adaptors[0].size == (7, 7)


def test_nan_alphas_are_rejected() -> None:
    network = Adaptive(narrow(), 0.0)
    network.alpha[1] = float("nan")
    with pytest.raises(ValueError, match=r"alphas of the shape adaptors diverged.*; lower alpha_learning_rate"):
        network.plan()
