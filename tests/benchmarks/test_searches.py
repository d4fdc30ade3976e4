"""Searches that a benchmark keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.searches import Asked, Searches
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


def test_what_is_kept_is_told_again_and_is_not_taken_for_another(tmp_path: Path) -> None:
    write_stripes(tmp_path / "dataset", 16)
    searches = Searches(tmp_path)
    first = searches.search("seed-0", Asked(METHOD, 0))
    first.run(lambda: Stop.NO, lambda *_: None)
    assert searches.search("seed-0", Asked(METHOD, 0)).points() == first.points() != []
    # As after a change of a default.
    assert searches.search("seed-0", Asked(METHOD | {"weight_decay": 0.1}, 0)).points() == []
