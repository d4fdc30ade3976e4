"""Two ranks that learn one shape together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


def learned(ranks: int, store: Path) -> list[dict[str, Any]]:
    """The results of this many ranks."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.search.methods.shape_adaptor.rank", str(rank), str(ranks), str(store)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(ranks)
    ]
    outputs = [process.communicate(timeout=90)[0] for process in started]
    assert [process.returncode for process in started] == [0] * ranks
    return [json.loads(answer) for answer in outputs]


def test_ranks_with_separate_images_learn_one_shape(tmp_path: Path) -> None:
    first, second = learned(2, tmp_path / "store")
    assert first == second
    [single] = learned(1, tmp_path / "none")
    assert single["alphas"] != first["alphas"]
