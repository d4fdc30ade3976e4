"""Complete searches without a service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paretofit.models import checkpoint
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import Constraint, Limits, ResolvedSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.local import LocalSearch
from paretofit.search.local_folder import LocalSearchError
from paretofit.search.pareto import nondominated
from tests.search.methods.fd_mobilenet.conftest import resolved as fd_mobilenet

TWO_AT_ONCE = {
    "families": ["fd_mobilenet"],
    "widths": [0.1, 0.25],
    "resolutions": [12],
    "trials": 2,
    "parallel_trials": 2,
    "epochs": 1,
}


def never_stop() -> Stop:
    return Stop.NO


def check_progress(trial: int, fraction: float) -> None:
    assert 0 <= fraction <= 1
    assert trial in (0, 1)


def ignore_progress(trial: int, fraction: float) -> None:
    """Accept progress without checks."""


class StopOnCheck:
    """Requests a stop once, at the n-th check."""

    def __init__(self, check: int, stop: Stop) -> None:
        self._remaining = check
        self._stop = stop

    def __call__(self) -> Stop:
        self._remaining -= 1
        return self._stop if self._remaining == 0 else Stop.NO


def test_front_checkpoints_reproduce_reported_metrics(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    front = LocalSearch(spec, stripes, tmp_path).run(never_stop, check_progress)
    assert front.finished
    assert 0 < front.hypervolume < 1
    macs = [point.metrics["macs"] for point in front.points]
    assert macs == sorted(macs)
    assert nondominated([point.metrics for point in front.points]) == list(range(len(front.points)))

    written = json.loads((tmp_path / "front.json").read_text())
    assert written["finished"] is True
    assert written["hypervolume"] == front.hypervolume
    dataset = Dataset.open(stripes)
    for entry, point in zip(written["points"], front.points, strict=True):
        path = tmp_path / entry["file"]
        assert Point.model_validate(checkpoint.read_record(path)) == point
        reevaluated = reevaluate(path, dataset)
        assert reevaluated.equal is True
        assert reevaluated.top1 == point.metrics["top1"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {line["trial"] for line in lines} == {0, 1}
    assert not list((tmp_path / "trials").glob("*/work"))


@pytest.mark.parametrize("check", [6, 19])
def test_interrupted_search_resumes_to_the_same_front(
    spec: ResolvedSpec, stripes: Path, tmp_path: Path, check: int
) -> None:
    uninterrupted = LocalSearch(spec, stripes, tmp_path / "whole").run(never_stop, check_progress)
    out = tmp_path / "parts"
    first = LocalSearch(spec, stripes, out).run(StopOnCheck(check, Stop.DRAIN), check_progress)
    assert not first.finished
    assert json.loads((out / "front.json").read_text())["finished"] is False
    second = LocalSearch(spec, stripes, out).run(never_stop, check_progress)
    assert second == uninterrupted
    # Running a finished search again returns the same front.
    assert LocalSearch(spec, stripes, out).run(never_stop, check_progress) == uninterrupted


class LateClock:
    """Clock that jumps to `seconds` when a trial first checks for a stop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._checks = 0

    def __call__(self) -> float:
        return self._seconds if self._checks > 1 else 0.0

    def stop(self) -> Stop:
        self._checks += 1
        return Stop.NO


def states(folder: Path) -> list[str]:
    return [trial["state"] for trial in json.loads((folder / "search.json").read_text())["trials"]]


def test_time_limit_ends_with_a_front(
    spec: ResolvedSpec, stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = spec.model_copy(update={"limits": Limits(max_wall_seconds=100)})
    late = LateClock(90)
    monkeypatch.setattr("paretofit.search.local.monotonic", late)
    front = LocalSearch(limited, stripes, tmp_path).run(late.stop, check_progress)
    assert front.finished
    assert front.stop_reason == "max_wall_seconds"
    assert json.loads((tmp_path / "front.json").read_text())["stop_reason"] == "max_wall_seconds"
    assert front.points
    assert all(point.weights for point in front.points)


def test_no_trial_starts_after_the_time_limit(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = fd_mobilenet(stripes, method=TWO_AT_ONCE, limits={"max_wall_seconds": 100})
    late = LateClock(100)
    monkeypatch.setattr("paretofit.search.local.monotonic", late)
    front = LocalSearch(spec, stripes, tmp_path).run(late.stop, check_progress)
    assert (front.finished, front.stop_reason) == (True, "max_wall_seconds")
    assert states(tmp_path) == ["completed", "cancelled"]


def test_parallel_trials_are_limited(stripes: Path, tmp_path: Path) -> None:
    for most, queued in ((None, 2), (1, 1)):
        spec = fd_mobilenet(stripes, method=TWO_AT_ONCE, limits={"max_parallel_trials": most})
        out = tmp_path / str(most)
        front = LocalSearch(spec, stripes, out).run(lambda: Stop.DRAIN, check_progress)
        assert (front.finished, front.stop_reason) == (False, None)
        assert states(out) == ["queued"] * queued


def test_search_interrupted_between_trials_plans_the_same_trials(stripes: Path, tmp_path: Path) -> None:
    spec = fd_mobilenet(stripes, method=TWO_AT_ONCE | {"trials": 3})
    LocalSearch(spec, stripes, tmp_path / "whole").run(never_stop, ignore_progress)

    def stop_after_first() -> Stop:
        first = json.loads((tmp_path / "parts" / "search.json").read_text())["trials"][0]
        return Stop.DRAIN if first["state"] == "completed" else Stop.NO

    assert not LocalSearch(spec, stripes, tmp_path / "parts").run(stop_after_first, ignore_progress).finished
    assert states(tmp_path / "parts") == ["completed", "queued"]
    LocalSearch(spec, stripes, tmp_path / "parts").run(never_stop, ignore_progress)
    uninterrupted, resumed = (
        json.loads((tmp_path / name / "search.json").read_text())["trials"] for name in ("whole", "parts")
    )
    assert [trial["new"] for trial in resumed] == [trial["new"] for trial in uninterrupted]


def test_folder_of_another_search_is_rejected(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    LocalSearch(spec, stripes, tmp_path).run(StopOnCheck(1, Stop.DRAIN), check_progress)
    other = spec.model_copy(update={"seed": 1})
    with pytest.raises(LocalSearchError, match="another specification: choose another folder"):
        LocalSearch(other, stripes, tmp_path)


def test_infeasible_constraints_error_names_the_nearest_cost(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    least = min(candidate.cost["macs"] for candidate in spec.candidates())
    impossible = spec.model_copy(update={"constraints": (Constraint(metric="macs", value=10),)})
    with pytest.raises(LocalSearchError, match=rf"macs <= 10 \(minimum {least}\)"):
        LocalSearch(impossible, stripes, tmp_path)


def test_trial_limit_below_the_minimum_is_rejected(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    limited = spec.model_copy(update={"limits": spec.limits.model_copy(update={"max_trials": 1})})
    with pytest.raises(LocalSearchError, match=r"limits\.max_trials: mutualnet needs at least 2 trials"):
        LocalSearch(limited, stripes, tmp_path)
