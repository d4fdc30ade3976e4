"""From alphas to sizes: initial values, local and global types, limits, hysteresis, and fitting to a cost."""

from __future__ import annotations

import math

import pytest

from paretofit.models.cost import cost
from paretofit.models.families.adaptors import adapted
from paretofit.models.families.registry import architecture
from paretofit.models.families.shapes import (
    LEAST_SIDE,
    Rule,
    Shape,
    TooCostlyError,
    adaptors,
    blend,
    factor,
    initial_alpha,
    shape,
    shaped,
    sigmoid,
)

VGG = architecture("vgg16", nominal=32, classes=10, base_width=0.25)


def rule(count: int = 4, size: tuple[int, int] = (32, 32), limit: int | None = None) -> Rule:
    return Rule(adapted(VGG, count), size, limit=limit)


def alpha(factor: float) -> float:
    """The alpha that gives this resizing factor."""
    return math.log(blend(factor) / (1 - blend(factor)))


def test_initial_alphas() -> None:
    """Liu et al. (arXiv 2008.00892): 32 to 8 pixels by four adaptors."""
    assert initial_alpha(32, 8, 4) == pytest.approx(-0.3464, abs=5e-5)
    assert factor(initial_alpha(32, 8, 4)) == pytest.approx((8 / 32) ** (1 / 4), abs=1e-4)
    # 512 to 8 would take more than four halvings.
    assert initial_alpha(512, 8, 4) == math.log(1e-4)
    # No reduction needed: nearly 1, not a division by zero.
    assert factor(initial_alpha(32, 32, 4)) == pytest.approx(1, abs=1e-4)
    assert factor(initial_alpha(8, 32, 4)) == pytest.approx(1, abs=1e-4)
    assert initial_alpha(32, 8, 2) == pytest.approx(math.log(1e-4))
    assert (factor(2.19), factor(-2.19)) == pytest.approx((0.95, 0.55), abs=5e-4)


def test_local_sizes_truncate_the_previous_size() -> None:
    """Local type: next = int(previous x s)."""
    alphas = [alpha(0.9), alpha(0.7), alpha(0.8), alpha(0.55)]
    assert rule().sizes(alphas) == ((28, 28), (19, 19), (15, 15), (8, 8))
    assert rule(size=(48, 33)).sizes(alphas) == ((43, 29), (30, 20), (24, 16), (13, 8))
    assert rule(size=(5, 32)).sizes([-12.0] * 4)[-1] == (LEAST_SIDE, LEAST_SIDE)


@pytest.mark.parametrize("side", [32, 64, 224, 512])
def test_initial_sizes_reach_the_target_side(side: int) -> None:
    count = int(math.log2(side / 2))
    sizes = rule(count, (side, side)).sizes([initial_alpha(side, 8, count)] * count)
    # Truncated at every adaptor.
    assert 5 <= sizes[-1][0] <= 8


@pytest.mark.parametrize("side", [32, 33, 512])
@pytest.mark.parametrize("limit", [None, 512])
def test_unit_factors_keep_the_side(side: int, limit: int | None) -> None:
    shape_rule = rule(4, (side, side), limit)
    assert shape_rule.sizes([initial_alpha(side, side, 4)] * 4) == ((side, side),) * 4
    assert shape_rule.sizes([alpha(0.9998)] * 4)[-1] == (side - 4, side - 4)
    # A limit one pixel below is enforced.
    assert rule(4, (side, side), side - 1).sizes([12.0] * 4)[-1][0] < side


def test_global_sizes_multiply_factors_before_rounding() -> None:
    """Global type: truncation by one adaptor does not accumulate in the next."""
    compressed = Rule(adapted(VGG, 4, "add"), (32, 32), in_all=True)
    # The network without adaptors has 32, 8, 4 and 2 pixels there.
    assert compressed.sizes([2.19] * 4) == ((30, 30), (7, 7), (3, 3), (2, 2))
    assert compressed.sizes([12.0] * 4) == ((32, 32), (8, 8), (4, 4), (2, 2))


def test_limit_scales_all_factors_by_one_ratio() -> None:
    """Memory-bounded: p = min(1, (limit / D)^(1/N)), s' = p s, and the blend follows s'."""
    free, bounded = rule(), rule(limit=8)
    alphas = [3.0, 2.0, 1.0, 0.0]
    last = 32 * math.prod(free.factors(alphas))
    ratio = (8 / last) ** (1 / 4)
    assert bounded.factors(alphas) == pytest.approx([ratio * each for each in free.factors(alphas)])
    assert 32 * math.prod(bounded.factors(alphas)) == pytest.approx(8)
    assert bounded.factors([-5.0] * 4) == free.factors([-5.0] * 4)
    # Factors below a half get the blend of a half.
    uneven = bounded.shape([9.0, 9.0, 0.0, -9.0])
    assert uneven.blends[3] == 0
    assert all(0 <= each <= 1 for each in uneven.blends)


def test_planned_size_has_hysteresis_of_one_pixel() -> None:
    one = Rule(adapted(VGG, 1), (32, 32))

    def planned(real: float, before: int) -> int:
        return one.sizes([alpha(real / 32)], ((before, before),))[0][0]

    assert one.sizes([alpha(24.1 / 32)]) == ((24, 24),)
    assert [planned(real, 24) for real in (23.8, 24.9, 25.2)] == [24, 24, 24]
    assert [planned(real, 24) for real in (23.7, 25.3, 26.5)] == [23, 25, 26]
    # In between, the size is unchanged.
    assert (planned(25.1, 24), planned(25.1, 25), planned(24.9, 25)) == (24, 25, 25)


def test_shape_round_trips_through_one_line() -> None:
    described = Shape(((25, 31), (19, 2)), (0.1 + 0.2, 1e-7))
    assert Shape.from_line(described.written()) == described
    assert Shape(((25, 25),), (0.5,)).written() == "25x25@0.5"
    for line in ("25x25", "25@0.5", "ax3@0.5", "2x2@half"):
        with pytest.raises(ValueError, match=r"shape: .* not a size and blend|could not convert"):
            Shape.from_line(line)
    network = shaped(rule(2).network, described)
    assert shape(network) == described
    assert [block.size for block in adaptors(network).values()] == [(25, 31), (19, 2)]
    with pytest.raises(ValueError, match="shape: 2 sizes are given, but the network has 4 adaptors"):
        shaped(rule(4).network, described)


@pytest.mark.parametrize("family", ["vgg16", "resnet18", "mobilenet_v2", "wrn_16_4"])
def test_rule_macs_equal_network_cost(family: str) -> None:
    human = architecture(family, nominal=32, classes=10)
    shape_rule = Rule(adapted(human, 3), (32, 40))
    sizes = shape_rule.sizes([0.3, -0.2, 0.1])
    assert shape_rule.macs(sizes) == cost(shaped(shape_rule.network, Shape(sizes, (0.5,) * 3)), (32, 40)).macs
    shares, fixed = shape_rule.shares
    assert sum(shares) + fixed == shape_rule.macs(((32, 40),) * 3)
    # With fractional sizes, half of each side costs a quarter downstream.
    assert shares[0] + sum(shares[1:]) / 4 + fixed == pytest.approx(shape_rule.macs(((16, 20),) * 3), rel=0.01)


@pytest.mark.parametrize("family", ["vgg16", "resnet50", "mobilenet_v2", "wrn_16_4"])
@pytest.mark.parametrize("share", [1.0, 2.0])
def test_fitted_sizes_exhaust_the_budget(family: str, share: float) -> None:
    human = architecture(family, nominal=32, classes=10)
    budget = share * cost(human, (32, 32)).macs
    shape_rule = Rule(adapted(human, 4), (32, 32))
    fitted = shape_rule.fitted([0.5, 0.2, -0.2, -0.5], lambda sizes: shape_rule.macs(sizes) <= budget, grows=True)
    assert 0.95 * budget <= shape_rule.macs(fitted.sizes) <= budget
    # All alphas are shifted by the same amount.
    moved = [math.log(b / (1 - b)) for b in fitted.blends]
    assert [a - moved[0] for a in moved] == pytest.approx([0, -0.3, -0.7, -1], abs=1e-6)


def test_fitting_shape_is_unchanged_unless_growth_is_requested() -> None:
    found, alphas = rule(), [0.5, 0.2, -0.2, -0.5]
    assert found.fitted(alphas, lambda sizes: True, grows=False) == found.shape(alphas)
    assert found.fitted(alphas, lambda sizes: True, grows=True).sizes == ((32, 32),) * 4
    with pytest.raises(TooCostlyError, match="the smallest sizes"):
        found.fitted(alphas, lambda sizes: False, grows=False)


def test_sigmoid_does_not_overflow() -> None:
    assert (sigmoid(-1000), sigmoid(0), sigmoid(1000)) == (0, 0.5, 1)
