"""From alphas to sizes: initial values, both types, limits, hysteresis, and shapes that fit a cost."""

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
    """Alpha of a factor."""
    return math.log(blend(factor) / (1 - blend(factor)))


def test_initial_alphas() -> None:
    """Liu et al. (arXiv 2008.00892): 32 to 8 pixels by four adaptors."""
    assert initial_alpha(32, 8, 4) == pytest.approx(-0.3464, abs=5e-5)
    assert factor(initial_alpha(32, 8, 4)) == pytest.approx((8 / 32) ** (1 / 4), abs=1e-4)
    # 512 to 8 would take more than four halvings.
    assert initial_alpha(512, 8, 4) == math.log(1e-4)
    # Nothing to be done: nearly 1, not a division by zero.
    assert factor(initial_alpha(32, 32, 4)) == pytest.approx(1, abs=1e-4)
    assert factor(initial_alpha(8, 32, 4)) == pytest.approx(1, abs=1e-4)
    assert initial_alpha(32, 8, 2) == pytest.approx(math.log(1e-4))
    assert (factor(2.19), factor(-2.19)) == pytest.approx((0.95, 0.55), abs=5e-4)


def test_each_size_is_that_of_the_map_before_cut_off() -> None:
    """Local type: next = int(previous x s)."""
    alphas = [alpha(0.9), alpha(0.7), alpha(0.8), alpha(0.55)]
    assert rule().sizes(alphas) == ((28, 28), (19, 19), (15, 15), (8, 8))
    assert rule(size=(48, 33)).sizes(alphas) == ((43, 29), (30, 20), (24, 16), (13, 8))
    assert rule(size=(5, 32)).sizes([-12.0] * 4)[-1] == (LEAST_SIDE, LEAST_SIDE)


@pytest.mark.parametrize("side", [32, 64, 224, 512])
def test_initial_sizes_come_to_the_wanted_side(side: int) -> None:
    count = int(math.log2(side / 2))
    sizes = rule(count, (side, side)).sizes([initial_alpha(side, 8, count)] * count)
    # Cut off at every adaptor.
    assert 5 <= sizes[-1][0] <= 8


@pytest.mark.parametrize("side", [32, 33, 512])
@pytest.mark.parametrize("limit", [None, 512])
def test_sides_that_are_to_stay_do(side: int, limit: int | None) -> None:
    found = rule(4, (side, side), limit)
    assert found.sizes([initial_alpha(side, side, 4)] * 4) == ((side, side),) * 4
    assert found.sizes([alpha(0.9998)] * 4)[-1] == (side - 4, side - 4)
    # A limit a pixel below them holds.
    assert rule(4, (side, side), side - 1).sizes([12.0] * 4)[-1][0] < side


def test_in_all_the_factors_are_multiplied_before_they_are_rounded() -> None:
    """Global type: truncation by one adaptor does not accumulate in the next."""
    compressed = Rule(adapted(VGG, 4, "add"), (32, 32), in_all=True)
    # The network without adaptors has 32, 8, 4 and 2 pixels there.
    assert compressed.sizes([2.19] * 4) == ((30, 30), (7, 7), (3, 3), (2, 2))
    assert compressed.sizes([12.0] * 4) == ((32, 32), (8, 8), (4, 4), (2, 2))


def test_a_limit_shrinks_all_factors_in_one_ratio() -> None:
    """Memory-bounded: p = min(1, (limit / D)^(1/N)), s' = p s, and the blend follows s'."""
    free, bounded = rule(), rule(limit=8)
    alphas = [3.0, 2.0, 1.0, 0.0]
    last = 32 * math.prod(free.factors(alphas))
    ratio = (8 / last) ** (1 / 4)
    assert bounded.factors(alphas) == pytest.approx([ratio * each for each in free.factors(alphas)])
    assert 32 * math.prod(bounded.factors(alphas)) == pytest.approx(8)
    assert bounded.factors([-5.0] * 4) == free.factors([-5.0] * 4)
    # A factor below a half has the blend of a half.
    uneven = bounded.shape([9.0, 9.0, 0.0, -9.0])
    assert uneven.blends[3] == 0
    assert all(0 <= each <= 1 for each in uneven.blends)


def test_a_planned_size_stays_until_a_side_is_past_the_next_pixel() -> None:
    one = Rule(adapted(VGG, 1), (32, 32))

    def planned(real: float, before: int) -> int:
        return one.sizes([alpha(real / 32)], ((before, before),))[0][0]

    assert one.sizes([alpha(24.1 / 32)]) == ((24, 24),)
    assert [planned(real, 24) for real in (23.8, 24.9, 25.2)] == [24, 24, 24]
    assert [planned(real, 24) for real in (23.7, 25.3, 26.5)] == [23, 25, 26]
    # Between the two it stays what it was.
    assert (planned(25.1, 24), planned(25.1, 25), planned(24.9, 25)) == (24, 25, 25)


def test_a_shape_in_one_line() -> None:
    found = Shape(((25, 31), (19, 2)), (0.1 + 0.2, 1e-7))
    assert Shape.from_line(found.written()) == found
    assert Shape(((25, 25),), (0.5,)).written() == "25x25@0.5"
    for line in ("25x25", "25@0.5", "ax3@0.5", "2x2@half"):
        with pytest.raises(ValueError, match=r"shape: .* not a size and blend|could not convert"):
            Shape.from_line(line)
    network = shaped(rule(2).network, found)
    assert shape(network) == found
    assert [block.size for block in adaptors(network).values()] == [(25, 31), (19, 2)]
    with pytest.raises(ValueError, match="shape: 2 sizes are given, but the network has 4 adaptors"):
        shaped(rule(4).network, found)


@pytest.mark.parametrize("family", ["vgg16", "resnet18", "mobilenet_v2", "wrn_16_4"])
def test_costs_of_sizes(family: str) -> None:
    human = architecture(family, nominal=32, classes=10)
    found = Rule(adapted(human, 3), (32, 40))
    sizes = found.sizes([0.3, -0.2, 0.1])
    assert found.macs(sizes) == cost(shaped(found.network, Shape(sizes, (0.5,) * 3)), (32, 40)).macs
    shares, fixed = found.shares
    assert sum(shares) + fixed == found.macs(((32, 40),) * 3)
    # With real sizes: half of each side is a quarter of what follows.
    assert shares[0] + sum(shares[1:]) / 4 + fixed == pytest.approx(found.macs(((16, 20),) * 3), rel=0.01)


@pytest.mark.parametrize("family", ["vgg16", "resnet50", "mobilenet_v2", "wrn_16_4"])
@pytest.mark.parametrize("share", [1.0, 2.0])
def test_fitted_sizes_use_a_budget_up(family: str, share: float) -> None:
    human = architecture(family, nominal=32, classes=10)
    budget = share * cost(human, (32, 32)).macs
    found = Rule(adapted(human, 4), (32, 32))
    fitted = found.fitted([0.5, 0.2, -0.2, -0.5], lambda sizes: found.macs(sizes) <= budget, grows=True)
    assert 0.95 * budget <= found.macs(fitted.sizes) <= budget
    # All alphas moved by one number.
    moved = [math.log(b / (1 - b)) for b in fitted.blends]
    assert [a - moved[0] for a in moved] == pytest.approx([0, -0.3, -0.7, -1], abs=1e-6)


def test_a_shape_that_fits_is_left_alone_unless_it_is_to_grow() -> None:
    found, alphas = rule(), [0.5, 0.2, -0.2, -0.5]
    assert found.fitted(alphas, lambda sizes: True, grows=False) == found.shape(alphas)
    assert found.fitted(alphas, lambda sizes: True, grows=True).sizes == ((32, 32),) * 4
    with pytest.raises(TooCostlyError, match="the smallest sizes"):
        found.fitted(alphas, lambda sizes: False, grows=False)


def test_sigmoid_of_any_number() -> None:
    assert (sigmoid(-1000), sigmoid(0), sigmoid(1000)) == (0, 0.5, 1)
