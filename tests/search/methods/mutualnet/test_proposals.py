"""The search space of an adaptive sweep, and its proposals."""

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
    fields = {"kind": "mutualnet", "sweep": {"mode": "adaptive"}, **method}
    body = {"name": "space", "dataset_id": "local", "method": fields, "constraints": constraints}
    return SearchSpec.model_validate(body).resolve(profile)


def top1(candidate: Candidate) -> float:
    """Grows with the cost, and most with the widths of the last stages."""
    widths = width_of(candidate.config)
    wide = sum(i * width for i, width in enumerate(widths)) / 15 if isinstance(widths, tuple) else widths / 2
    return 0.3 + 0.4 * wide + 0.2 * int(candidate.config["resolution"]) / 32


def measured(candidate: Candidate) -> dict[str, float]:
    return {"selection_top1": top1(candidate), **candidate.cost}


def proposed(proposals: Proposals, most: int) -> list[Candidate]:
    candidates: list[Candidate] = []
    while len(candidates) < most and (candidate := proposals.ask()) is not None:
        proposals.tell(candidate, measured(candidate))
        candidates.append(candidate)
    return candidates


def test_grid_space_lists_all_candidates() -> None:
    spec = spec_of()
    space = Space(spec)
    assert (space.size, space.listed) == (64, True)
    assert list(space.axes) == ["width", "resolution"]
    assert all(space.candidate(space.place(candidate.config)) == candidate for candidate in spec.candidates())


def test_stage_width_combinations_are_distinct_networks() -> None:
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
def test_listed_candidates_bound_all_costs(family: str) -> None:
    """Constraints that no listed network meets are therefore infeasible."""
    spec = spec_of(granularity="stage", family=family)
    space, listed, random = Space(spec), spec.candidates(), Random(0)
    for _ in range(50):
        place = tuple(random.randrange(len(values)) for values in space.axes.values())
        for name, value in space.candidate(place).cost.items():
            assert min(c.cost[name] for c in listed) <= value <= max(c.cost[name] for c in listed)


def test_each_candidate_is_proposed_once() -> None:
    spec = spec_of()
    candidates = proposed(Proposals(Space(spec), OBJECTIVES, seed=1), most=100)
    assert {candidate.key for candidate in candidates} == {candidate.key for candidate in spec.candidates()}
    assert len(candidates) == 64


@pytest.mark.parametrize("granularity", ["network", "stage"])
def test_only_feasible_candidates_are_proposed(granularity: str) -> None:
    bounds = (Constraint(metric="macs", value=600_000), Constraint(metric="params", value=30_000))
    spec = spec_of(*bounds, granularity=granularity)
    candidates = proposed(Proposals(Space(spec), OBJECTIVES, seed=1), most=40)
    assert all(bound.holds(candidate.cost) for candidate in candidates for bound in bounds)
    if granularity == "network":
        assert {candidate.key for candidate in candidates} == {candidate.key for candidate in spec.feasible()}
    else:
        assert len(candidates) == 40


def test_single_feasible_network_is_proposed() -> None:
    least = spec_of().candidates()[0].cost["macs"]
    spec = spec_of(Constraint(metric="macs", value=least))
    assert [candidate.cost["macs"] for candidate in proposed(Proposals(Space(spec), OBJECTIVES, seed=0), 5)] == [least]


def test_proposals_are_reproducible_from_history() -> None:
    spec = spec_of(granularity="stage")
    uninterrupted = proposed(Proposals(Space(spec), OBJECTIVES, seed=5), most=30)
    resumed = Proposals(Space(spec), OBJECTIVES, seed=5)
    for candidate in uninterrupted[:17]:
        resumed.tell(candidate, measured(candidate))
    assert proposed(resumed, most=13) == uninterrupted[17:]
    assert proposed(Proposals(Space(spec), OBJECTIVES, seed=6), most=30) != uninterrupted


def test_proposals_beat_random_search_in_a_large_space() -> None:
    spec = spec_of(granularity="stage")
    macs = [float(candidate.cost["macs"]) for candidate in spec.candidates()]

    def volume(candidates: list[Candidate]) -> float:
        return hypervolume([measured(candidate) for candidate in candidates], macs=(min(macs), max(macs)), classes=2)

    space, listed = Space(spec), spec.candidates()
    spread = [listed[round(i * (len(listed) - 1) / (STARTUP - 1))] for i in range(STARTUP)]
    proposals, random = Proposals(space, OBJECTIVES, seed=0), Random(0)
    for candidate in spread:
        proposals.tell(candidate, measured(candidate))
    places = [tuple(random.randrange(len(values)) for values in space.axes.values()) for _ in range(60)]
    chance = volume([*spread, *map(space.candidate, places)])
    assert volume([*spread, *proposed(proposals, most=60)]) > 1.02 * chance
