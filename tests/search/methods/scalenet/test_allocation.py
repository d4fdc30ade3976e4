"""Allocation of channels by importance: exact, deterministic, monotonic in the budget."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import count
from random import Random
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost
from paretofit.models.families import scalenet
from paretofit.models.families.registry import architecture
from paretofit.models.families.scaling import Scale
from paretofit.models.families.structures import Structure
from paretofit.models.kinds.aggregation import aggregations
from paretofit.search.methods.scalenet.allocation import (
    Allocation,
    ByAlpha,
    InfeasibleAllocationError,
    Site,
    allocate,
    ladder,
)

ALLOCATIONS: tuple[Allocation, ...] = get_args(Allocation)


def sites(family: str, *, ratio: float = 1.0, width: float = 1.0, seed: int = 0) -> list[Site]:
    """Sites of a seed network with random scores, higher for channels of large maps."""
    variant = scalenet.VARIANTS[family]
    random = Random(seed)
    result = []
    for i, planes in enumerate(variant.rows(variant.widened(Scale(base_width=width)))):
        scores = tuple(tuple(random.gauss(2.0 - at / 2, 1.0) for _ in range(round(ratio * planes))) for at in range(4))
        result.append(Site(planes, scores, width=planes if not variant.bottleneck and i % 2 else None))
    return result


def measures(name: str, size: tuple[int, int]) -> dict[str, Callable[[Architecture], float]]:
    return {name: lambda network: float(cost(network, size).as_dict()[name])}


def build(family: str, width: float = 1.0) -> Callable[[Structure], Architecture]:
    return lambda structure: architecture(family, base_width=width, structure=structure)


def test_most_important_channels_across_scales_are_kept() -> None:
    site = Site(4, ((0.9, 0.1), (0.8, 0.7), (0.2, 0.3), (0.6, 0.0)))
    steps = ladder("learned", [site])
    assert isinstance(steps, ByAlpha)
    assert steps.alphas == tuple(Fraction(k, 4) for k in range(1, 9))
    assert steps[0] == ((1, 0, 0, 0),)
    assert steps[3] == ((1, 2, 0, 1),)
    assert steps[7] == ((2, 2, 2, 2),)


def test_kept_channels_are_alpha_times_planes_rounded_up() -> None:
    """ScaleNet-50 (arXiv 1904.09460): 88, 175, 349 and 697 channels."""
    steps = ladder("learned", sites("scalenet50"))
    assert isinstance(steps, ByAlpha)
    sums = [
        {sum(row) for row in steps[step]} for step, alpha in enumerate(steps.alphas) if math.ceil(512 * alpha) == 697
    ]
    assert sums == [{88, 175, 349, 697}]


def test_ties_are_ranked_by_scale_then_channel() -> None:
    site = Site(4, ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)))
    assert [ladder("learned", [site])[step] for step in (1, 2, 4)] == [
        ((2, 0, 0, 0),),
        ((2, 1, 0, 0),),
        ((2, 2, 1, 0),),
    ]


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize(("family", "width"), [("scalenet50", 0.25), ("scalenet18", 0.25), ("scalenet20", 1.0)])
def test_ladders_grow_within_the_seed(allocation: Allocation, family: str, width: float) -> None:
    seed_sites = sites(family, width=width)
    steps = ladder(allocation, seed_sites)
    before: Structure | None = None
    for step in range(0, len(steps), max(1, len(steps) // 40)):
        structure = steps[step]
        for i, (row, site) in enumerate(zip(structure, seed_sites, strict=True)):
            assert sum(row) >= 1
            assert site.width in (None, sum(row))
            if allocation != "single":
                assert all(kept <= len(scores) for kept, scores in zip(row, site.scores, strict=True))
            if before is not None:
                assert all(earlier <= later for earlier, later in zip(before[i], row, strict=True))
        before = structure
    assert steps[len(steps) - 1] != steps[0]


@pytest.mark.parametrize(("family", "gap"), [("scalenet50", 0.005), ("scalenet101", 0.005), ("scalenet152", 0.005)])
@pytest.mark.parametrize("metric", ["macs", "params"])
def test_budget_is_met_from_below(family: str, gap: float, metric: str) -> None:
    """Within 0.5 % for depths from 50, which is one step of alpha."""
    seed_sites, network = sites(family), build(family)
    steps = ladder("learned", seed_sites)
    plain = cost(network(tuple((site.planes, 0, 0, 0) for site in seed_sites)), (224, 224)).as_dict()[metric]
    for budget in (0.75 * plain, 1.0 * plain):
        allocated = allocate(steps, network, measures(metric, (224, 224)), {metric: budget})
        assert (1 - gap) * budget <= allocated.measured[metric] <= budget
        more = cost(network(steps[allocated.step + 1]), (224, 224)).as_dict()[metric]
        assert more > budget


@settings(deadline=None, max_examples=25)
@given(
    budgets=st.lists(st.floats(12e6, 60e6), min_size=2, max_size=2).map(sorted),
    seed=st.integers(0, 99),
    allocation=st.sampled_from(ALLOCATIONS),
)
def test_larger_budget_never_removes_channels(budgets: list[float], seed: int, allocation: Allocation) -> None:
    network = partial(architecture, "scalenet20", nominal=32, classes=10)
    steps = ladder(allocation, sites("scalenet20", seed=seed))
    small, large = (
        allocate(steps, lambda s: network(structure=s), measures("macs", (32, 32)), {"macs": budget})
        for budget in budgets
    )
    assert small.measured["macs"] <= budgets[0]
    assert all(
        a <= b
        for few, many in zip(small.structure, large.structure, strict=True)
        for a, b in zip(few, many, strict=True)
    )


def test_allocation_is_deterministic() -> None:
    for allocation in ALLOCATIONS:
        one, other = (ladder(allocation, sites("scalenet20", seed=3), seed=5)[20] for _ in range(2))
        assert one == other
    assert ladder("random", sites("scalenet20"), seed=1)[20] != ladder("random", sites("scalenet20"), seed=2)[20]


def test_several_bounds_hold_simultaneously() -> None:
    network = build("scalenet50", 0.25)
    seed_sites = sites("scalenet50", width=0.25)
    by = measures("macs", (64, 64)) | measures("params", (64, 64))
    steps = ladder("learned", seed_sites)
    loose = allocate(steps, network, by, {"macs": 3e7})
    params = float(cost(network(loose.structure), (64, 64)).params)
    tight = allocate(steps, network, by, {"macs": 3e7, "params": 0.9 * params})
    assert tight.measured["params"] <= 0.9 * params
    assert tight.step < loose.step


def test_infeasible_budget_error_has_the_least_cost() -> None:
    with pytest.raises(InfeasibleAllocationError) as error:
        allocate(
            ladder("learned", sites("scalenet20")), build("scalenet20"), measures("macs", (32, 32)), {"macs": 1000}
        )
    assert error.value.least["macs"] > 1000


def test_noisy_measure_still_meets_the_bound() -> None:
    calls = count()

    def latency(network: Architecture) -> float:
        return sum(block.out_channels for block in aggregations(network).values()) * (1.0 if next(calls) % 3 else 1.2)

    steps = ladder("learned", sites("scalenet20"))
    bound = sum(map(sum, steps[20]))
    allocated = allocate(steps, build("scalenet20"), {"latency_ms": latency}, {"latency_ms": bound})
    assert allocated.measured["latency_ms"] <= bound


def test_global_ranking_selects_across_blocks_and_keeps_one_channel_each() -> None:
    important = Site(4, (tuple(9.0 + i / 10 for i in range(4)), (), (), ()))
    unimportant = Site(4, ((0.5,), (0.4,), (), ()))
    steps = ladder("global", [unimportant, important])
    assert [steps[step] for step in range(len(steps))] == [
        ((1, 0, 0, 0), (1, 0, 0, 0)),
        ((1, 0, 0, 0), (2, 0, 0, 0)),
        ((1, 0, 0, 0), (3, 0, 0, 0)),
        ((1, 0, 0, 0), (4, 0, 0, 0)),
        ((1, 1, 0, 0), (4, 0, 0, 0)),
    ]


def test_even_and_single_allocations() -> None:
    seed_sites = sites("scalenet20")
    even, single = (ladder(name, seed_sites)[9] for name in ("even", "single"))
    assert all(max(row) - min(row) <= 1 for row in even)
    assert all(row[1:] == (0, 0, 0) for row in single)
    assert Counter(map(sum, even)) == Counter(map(sum, single))


@pytest.mark.parametrize(
    ("planes", "scores", "width", "message"),
    [
        (4, ((1.0,), (1.0,)), None, "a site has the scores of 2 scales instead of 4"),
        (4, ((math.nan,), (), (), ()), None, "the importance of a channel is not finite: .*; lower learning_rate"),
        (4, ((1.0,), (1.0,), (), ()), 4, "4 channels are needed, but the seed network has 2: raise seed_ratio"),
    ],
)
def test_invalid_sites_are_rejected(
    planes: int, scores: tuple[tuple[float, ...], ...], width: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Site(planes, scores, width=width)
