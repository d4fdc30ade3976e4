"""The networks that a sweep may find, and which it proposes."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.spec import Constraint, ResolvedSpec, SearchSpec
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.proposals import Proposals
from paretofit.search.methods.mutualnet.space import Space, width_of
from paretofit.search.methods.proposals import STARTUP
from paretofit.search.pareto import hypervolume

OBJECTIVES = ("selection_top1", "macs")


def spec_of(*constraints: Constraint, **method: Any) -> ResolvedSpec:
    profile = DatasetProfile(
        classes=("a", "b"),
        channels=1,
        image_size=(32, 32),
        images={"train": 100, "selection": 10, "report": 10},
        mean=(0.5,),
        std=(0.5,),
        fingerprint="none",
    )
    given = {"kind": "mutualnet", "sweep": {"mode": "adaptive"}, **method}
    body = {"name": "space", "dataset_id": "local", "method": given, "constraints": constraints}
    return SearchSpec.model_validate(body).resolve(profile)


def top1(candidate: Candidate) -> float:
    """Grows with the cost, most where the last stages are wide and the first are not."""
    widths = width_of(candidate.config)
    wide = sum(i * width for i, width in enumerate(widths)) / 15 if isinstance(widths, tuple) else widths / 2
    return 0.3 + 0.4 * wide + 0.2 * int(candidate.config["resolution"]) / 32


def measured(candidate: Candidate) -> dict[str, float]:
    return {"selection_top1": top1(candidate), **candidate.cost}


def proposed(proposals: Proposals, most: int) -> list[Candidate]:
    found: list[Candidate] = []
    while len(found) < most and (candidate := proposals.ask()) is not None:
        proposals.tell(candidate, measured(candidate))
        found.append(candidate)
    return found


def test_the_grid_is_its_own_space() -> None:
    spec = spec_of()
    space = Space(spec)
    assert (space.size, space.listed) == (64, True)
    assert list(space.axes) == ["width", "resolution"]
    assert all(space.candidate(space.place(candidate.config)) == candidate for candidate in spec.candidates())


def test_every_combination_of_stages_is_another_network() -> None:
    spec = spec_of(granularity="stage", family="wrn_10_1", base_width=1.0, resolutions=[32], widths={"step": 0.25})
    space = Space(spec)
    assert not space.listed
    assert list(space.axes) == ["width_1", "width_2", "width_3", "resolution"]
    sizes = [range(len(values)) for values in space.axes.values()]
    networks = {
        spec.params(SlimmableParams).architecture(spec.dataset, width_of(space.candidate((a, b, c, 0)).config))
        for a in sizes[0]
        for b in sizes[1]
        for c in sizes[2]
    }
    assert len(networks) == space.size


@pytest.mark.parametrize("family", ["fd_mobilenet", "mobilenet_v2", "resnet18", "vgg16", "wrn_16_2"])
def test_the_listed_stages_bound_all_costs(family: str) -> None:
    """What no listed network can meet, none can."""
    spec = spec_of(granularity="stage", family=family)
    space, listed, random = Space(spec), spec.candidates(), Random(0)
    for _ in range(50):
        place = tuple(random.randrange(len(values)) for values in space.axes.values())
        for name, value in space.candidate(place).cost.items():
            assert min(c.cost[name] for c in listed) <= value <= max(c.cost[name] for c in listed)


def test_all_are_proposed_once() -> None:
    spec = spec_of()
    found = proposed(Proposals(Space(spec), OBJECTIVES, seed=1), most=100)
    assert {candidate.key for candidate in found} == {candidate.key for candidate in spec.candidates()}
    assert len(found) == 64


@pytest.mark.parametrize("granularity", ["network", "stage"])
def test_only_what_is_feasible(granularity: str) -> None:
    bounds = (Constraint(metric="macs", value=600_000), Constraint(metric="params", value=30_000))
    spec = spec_of(*bounds, granularity=granularity)
    found = proposed(Proposals(Space(spec), OBJECTIVES, seed=1), most=40)
    assert all(bound.holds(candidate.cost) for candidate in found for bound in bounds)
    if granularity == "network":
        assert {candidate.key for candidate in found} == {candidate.key for candidate in spec.feasible()}
    else:
        assert len(found) == 40


def test_a_single_feasible_network() -> None:
    least = spec_of().candidates()[0].cost["macs"]
    spec = spec_of(Constraint(metric="macs", value=least))
    assert [candidate.cost["macs"] for candidate in proposed(Proposals(Space(spec), OBJECTIVES, seed=0), 5)] == [least]


def test_told_the_same_it_goes_on_the_same() -> None:
    spec = spec_of(granularity="stage")
    whole = proposed(Proposals(Space(spec), OBJECTIVES, seed=5), most=30)
    again = Proposals(Space(spec), OBJECTIVES, seed=5)
    for candidate in whole[:17]:
        again.tell(candidate, measured(candidate))
    assert proposed(again, most=13) == whole[17:]
    assert proposed(Proposals(Space(spec), OBJECTIVES, seed=6), most=30) != whole


def test_it_finds_more_than_chance_in_a_space_too_large_to_enumerate() -> None:
    spec = spec_of(granularity="stage")
    macs = [float(candidate.cost["macs"]) for candidate in spec.candidates()]

    def volume(found: list[Candidate]) -> float:
        return hypervolume([measured(candidate) for candidate in found], macs=(min(macs), max(macs)), classes=2)

    space, listed = Space(spec), spec.candidates()
    spread = [listed[round(i * (len(listed) - 1) / (STARTUP - 1))] for i in range(STARTUP)]
    proposals, random = Proposals(space, OBJECTIVES, seed=0), Random(0)
    for candidate in spread:
        proposals.tell(candidate, measured(candidate))
    places = [tuple(random.randrange(len(values)) for values in space.axes.values()) for _ in range(60)]
    chance = volume([*spread, *map(space.candidate, places)])
    assert volume([*spread, *proposed(proposals, most=60)]) > 1.02 * chance
