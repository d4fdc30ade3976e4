"""Cache of the searches that benchmarks run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.searches import Searches, SearchRun
from paretofit.search.contracts.trial import Stop
from tests.search.conftest import write_stripes

METHOD: dict[str, Any] = {
    "kind": "fd_mobilenet",
    "families": ["fd_mobilenet"],
    "widths": [0.25],
    "trials": 1,
    "epochs": 1,
    "batch_size": 16,
}


def test_finished_searches_are_reused_only_for_equal_parameters(tmp_path: Path) -> None:
    write_stripes(tmp_path / "dataset", 16)
    searches = Searches(tmp_path)
    first = searches.search("seed-0", SearchRun(METHOD, 0))
    first.run(lambda: Stop.NO, lambda *_: None)
    assert searches.search("seed-0", SearchRun(METHOD, 0)).points() == first.points() != []
    # As after a changed default.
    assert searches.search("seed-0", SearchRun(METHOD | {"weight_decay": 0.1}, 0)).points() == []
