"""Time-limited training that leaves time for later trainings."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from paretofit.search.contracts.trial import Stop
from paretofit.search.methods.scalenet.budget import TimeLimitedReporter
from tests.search.recorder import Recorder


@pytest.mark.parametrize(
    ("requested", "seconds", "expected"),
    [
        (Stop.NO, math.inf, Stop.NO),
        (Stop.NO, 0.0, Stop.LIMIT),
        (Stop.DRAIN, 0.0, Stop.DRAIN),
        (Stop.CANCEL, math.inf, Stop.CANCEL),
    ],
)
def test_time_share_acts_as_a_limit_unless_a_stop_is_requested(
    tmp_path: Path, requested: Stop, seconds: float, expected: Stop
) -> None:
    assert TimeLimitedReporter(Recorder(tmp_path, stop=lambda _: requested), seconds).should_stop() is expected


def test_reports_are_forwarded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    limited = TimeLimitedReporter(recorder, 0.0)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    limited.metric("loss", 3, 0.5)
    limited.artifact("name", tmp_path / "file")
    limited.checkpoint(tmp_path / "folder", 7)
    assert recorder.metrics == {("loss", 3): 0.5}
    assert list(recorder.artifacts) == ["name"]
    assert [step for step, _ in recorder.checkpoints] == [7]
