"""The front and its hypervolume, against brute force and Optuna's."""

from __future__ import annotations

import itertools
import math
import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from paretofit.search.pareto import best_under, by_volume, hypervolume, nondominated, preference, volume

# Few distinct values, so that ties and duplicates are common.
COORDINATE = st.integers(0, 6).map(float)
POINTS_2 = st.lists(st.fixed_dictionaries({"selection_top1": COORDINATE, "macs": COORDINATE}), max_size=30)
POINTS_3 = st.lists(
    st.fixed_dictionaries({"selection_top1": COORDINATE, "macs": COORDINATE, "params": COORDINATE}), max_size=20
)


def dominates(a: dict[str, float], b: dict[str, float], costs: tuple[str, ...]) -> bool:
    no_worse = a["selection_top1"] >= b["selection_top1"] and all(a[c] <= b[c] for c in costs)
    return no_worse and (a["selection_top1"] > b["selection_top1"] or any(a[c] < b[c] for c in costs))


@given(POINTS_2)
def test_two_objectives_equal_brute_force(points: list[dict[str, float]]) -> None:
    expected = [i for i, p in enumerate(points) if not any(dominates(q, p, ("macs",)) for q in points)]
    assert nondominated(points) == expected


@given(POINTS_3)
def test_three_objectives_equal_brute_force(points: list[dict[str, float]]) -> None:
    costs = ("macs", "params")
    expected = [i for i, p in enumerate(points) if not any(dominates(q, p, costs) for q in points)]
    assert nondominated(points, ["selection_top1"], costs) == expected


def test_equal_points_are_kept_or_dropped_together() -> None:
    twin = {"selection_top1": 0.8, "macs": 10.0}
    assert nondominated([twin, {"selection_top1": 0.8, "macs": 11.0}, dict(twin)]) == [0, 2]
    assert nondominated([]) == []


def test_missing_or_nan_objectives_raise() -> None:
    with pytest.raises(KeyError):
        nondominated([{"macs": 1.0}])
    with pytest.raises(ValueError, match="not a number"):
        nondominated([{"macs": 1.0, "selection_top1": math.nan}])


@given(st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE), max_size=12), st.integers(1, 3))
def test_volume_equals_counted_unit_cells(points: list[tuple[float, ...]], dimensions: int) -> None:
    values = [point[:dimensions] for point in points]
    cells = itertools.product(range(6), repeat=dimensions)
    covered = sum(any(all(v <= c for v, c in zip(value, cell, strict=True)) for value in values) for cell in cells)
    assert volume(values, (6.0,) * dimensions) == pytest.approx(covered)


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_volume_equals_optuna(dimensions: int) -> None:
    values = np.random.default_rng(dimensions).random((40, dimensions))
    reference = np.ones(dimensions)
    assert volume(values.tolist(), reference.tolist()) == pytest.approx(compute_hypervolume(values, reference))


def test_hypervolume_of_known_fronts() -> None:
    macs, classes = (1e6, 1e7), 10
    assert hypervolume([], macs=macs, classes=classes) == 0
    assert hypervolume([{"macs": 1e6, "selection_top1": 1.0}], macs=macs, classes=classes) == pytest.approx(1)
    assert hypervolume([{"macs": 1e6, "selection_top1": 0.1}], macs=macs, classes=classes) == 0
    # Half of the accuracy's range at half of the (logarithmic) range of costs.
    middle = math.sqrt(1e6 * 1.1e7)
    assert hypervolume([{"macs": middle, "selection_top1": 0.55}], macs=macs, classes=classes) == pytest.approx(0.25)


@given(POINTS_2)
def test_hypervolume_ignores_dominated_points(points: list[dict[str, float]]) -> None:
    scaled = [{"macs": 1 + p["macs"], "selection_top1": p["selection_top1"] / 6} for p in points]
    front = [scaled[i] for i in nondominated(scaled)]
    volume = hypervolume(scaled, macs=(1, 6), classes=4)
    assert volume == pytest.approx(hypervolume(front, macs=(1, 6), classes=4))
    assert 0 <= volume <= 1 + 1e-12


@pytest.mark.parametrize(("macs", "classes"), [((0, 1), 10), ((2, 1), 10), ((1, math.inf), 10), ((1, 2), 1)])
def test_hypervolume_rejects_invalid_ranges(macs: tuple[float, float], classes: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        hypervolume([], macs=macs, classes=classes)


def test_front_of_two_thousand_points_takes_milliseconds() -> None:
    source = random.Random(0)
    points = [{"macs": (x := source.random()) + 0.1, "selection_top1": x} for _ in range(2000)]
    best = math.inf
    for _ in range(5):
        start = time.process_time()
        nondominated(points)
        hypervolume(points, macs=(0.1, 1.1), classes=10)
        best = min(best, time.process_time() - start)
    assert best < 0.05


@given(st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE), max_size=12))
def test_by_volume_selects_greedily(values: list[tuple[float, ...]]) -> None:
    reference = (5.5, 5.5, 5.5)
    order = by_volume(values, reference)
    assert sorted(order) == list(range(len(values)))
    assert [by_volume(values, reference, most=most) for most in range(len(order))] == [
        order[:most] for most in range(len(order))
    ]

    def gain(chosen: list[int], index: int) -> float:
        return volume([values[i] for i in (*chosen, index)], reference) - volume([values[i] for i in chosen], reference)

    chosen: list[int] = []
    for place, index in enumerate(order):
        rest = order[place:]
        most = max(gain(chosen, other) for other in rest)
        if most == 0:  # Recomputed among the remaining points.
            chosen = []
            most = max(gain(chosen, other) for other in rest)
        assert gain(chosen, index) == most
        chosen.append(index)


def test_by_volume_keeps_the_order_of_ties_and_zero_gains() -> None:
    assert by_volume([(9.0, 9.0), (1.0, 1.0), (1.0, 1.0), (9.0, 0.0)], (5.0, 5.0)) == [1, 2, 0, 3]
    assert by_volume([], (1.0, 1.0)) == []


def test_by_volume_is_fast() -> None:
    random_ = random.Random(0)
    values = [(random_.random(), random_.random()) for _ in range(1000)]
    start = time.process_time()
    by_volume(values, (1.0, 1.0))
    assert time.process_time() - start < 5


@given(POINTS_3, COORDINATE)
def test_query_table_has_the_best_point_under_every_bound(points: list[dict[str, float]], bound: float) -> None:
    keyed = [(str(index % 5), point) for index, point in enumerate(points)]
    for cost in ("macs", "params"):
        table = best_under(keyed, cost)
        assert table == sorted(table)
        fitting = [index for index, point in enumerate(points) if point[cost] <= bound]
        entries = [index for least, index in table if least <= bound]
        if not fitting:
            assert not entries
            continue
        best = min(preference(points[index], keyed[index][0]) for index in fitting)
        assert preference(points[entries[-1]], keyed[entries[-1]][0]) == best
