"""A training that leaves time for those after it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from paretofit.search.contracts.trial import Stop
from paretofit.search.methods.scalenet.budget import TimeLimitedReporter
from tests.search.recorder import Recorder


@pytest.mark.parametrize(
    ("asked", "seconds", "told"),
    [
        (Stop.NO, math.inf, Stop.NO),
        (Stop.NO, 0.0, Stop.LIMIT),
        (Stop.DRAIN, 0.0, Stop.DRAIN),
        (Stop.CANCEL, math.inf, Stop.CANCEL),
    ],
)
def test_its_share_is_a_limit_unless_it_is_to_end_at_once(
    tmp_path: Path, asked: Stop, seconds: float, told: Stop
) -> None:
    assert TimeLimitedReporter(Recorder(tmp_path, stop=lambda _: asked), seconds).should_stop() is told


def test_reports_go_on(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    paced = TimeLimitedReporter(recorder, 0.0)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    paced.metric("loss", 3, 0.5)
    paced.artifact("name", tmp_path / "file")
    paced.checkpoint(tmp_path / "folder", 7)
    assert recorder.metrics == {("loss", 3): 0.5}
    assert list(recorder.artifacts) == ["name"]
    assert [step for step, _ in recorder.checkpoints] == [7]
