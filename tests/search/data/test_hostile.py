"""Malicious archives, passed through the process that ingests archives."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.search.data.hostile import GOOD, LIMITS, PAYLOAD, Hostile, archives

MAX_MEMORY = 300 * 1024**2
MAX_SPOOLED = 9 * 1024**2
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Outcome:
    """Output, exit code, peak memory and output folder of the process."""

    answer: dict[str, Any]
    status: int
    peak: int
    out: Path


def _ingest_all(place: Path, cases: dict[str, Hostile]) -> dict[str, Outcome]:
    """Ingest every case; assert that nothing is written outside the answer files and output folders."""
    cwd = place / "here"
    cwd.mkdir()
    jobs = []
    for number, case in enumerate(cases.values()):
        folder = place / str(number)
        folder.mkdir()
        (folder / "archive").write_bytes(case.content)
        spec = {"name": "test", "source": {"kind": "upload"}}
        request = {"spec": spec, "archive": str(folder / "archive"), "limits": LIMITS}
        (folder / "request").write_text(json.dumps(request))
        jobs.append({name: str(folder / name) for name in ("request", "out", "answer")})
    (place / "jobs").write_text(json.dumps(jobs))
    before = _listed(place) | {Path(job[name]) for job in jobs for name in ("out", "answer")}
    process = subprocess.run(
        [sys.executable, "-m", "tests.search.data.ingest_many", str(place / "jobs")],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    written = {path for path in _listed(place) - before if "out" not in path.relative_to(place).parts}
    assert written == set()
    outcomes = {}
    for name, job, line in zip(cases, jobs, process.stdout.splitlines(), strict=True):
        usage = json.loads(line)
        message = Path(job["answer"]).read_text().splitlines()
        assert usage["status"] == 0, (name, message)
        outcomes[name] = Outcome(json.loads(message[-1]), usage["status"], usage["peak"], Path(job["out"]))
    return outcomes


def _listed(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_malicious_archives_are_rejected_within_resource_limits(tmp_path: Path, subtests: pytest.Subtests) -> None:
    cases = archives()
    assert len(cases) >= 40
    for name, outcome in _ingest_all(tmp_path, cases).items():
        with subtests.test(name):
            _check(cases[name], outcome)


def _check(case: Hostile, outcome: Outcome) -> None:
    answer = outcome.answer
    assert outcome.peak < MAX_MEMORY
    if case.rejection is not None:
        assert answer["state"] == "rejected", answer
        assert [error["code"] for error in answer["errors"]] == [case.rejection]
        assert answer["errors"][0]["detail"]
        assert list(outcome.out.iterdir()) == []
        return
    assert answer["state"] == "ready", answer
    _check_dataset(case, outcome)


def _check_dataset(case: Hostile, outcome: Outcome) -> None:
    corrupt = outcome.answer["report"]["corrupt"]
    if case.listed:
        assert [entry["name"] for entry in corrupt] == ["cat/bad.png"]
        assert case.listed in corrupt[0]["reason"]
        assert sum(outcome.answer["profile"]["images"].values()) == len(GOOD)
    # Stored images are re-encoded, so only pixels remain.
    for path in outcome.out.iterdir():
        content = path.read_bytes()
        assert PAYLOAD not in content
        assert b"PK\x03\x04" not in content
        assert len(content) < MAX_SPOOLED
