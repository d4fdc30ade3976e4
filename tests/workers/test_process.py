from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from paretofit.search.contracts.trial import Stop
from paretofit.workers.environment import scrubbed
from paretofit.workers.messages import Lines, decode, encode
from paretofit.workers.process import REPORT, Process, spawn
from tests.workers.fleet import is_gone

GUARDED = """
import os, subprocess, sys
from paretofit.workers import parent_watchdog
parent_watchdog.attach(lambda line: print("received", line.decode().strip(), flush=True))
child = subprocess.Popen(["sleep", "100"])
print("child", child.pid, flush=True)
child.wait()
"""


def start(code: str, tmp_path: Path, *arguments: str) -> Process:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return spawn([sys.executable, "-c", code, *arguments], environment=environment, directory=tmp_path)


def read_until(process: Process, start: str) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for _, line in process.read(0.1):
            if line.decode().startswith(start):
                return line.decode()
    raise AssertionError(f"no line {start}")


def test_all_output_is_read(tmp_path: Path) -> None:
    code = """
import os, sys
os.write(int(sys.argv[1]), b'{"metric": ["a", 1, 2.0]}\\n')
print("out")
sys.stderr.write("no line end")
"""
    with start(code, tmp_path, REPORT) as process:
        while not process.has_ended():
            time.sleep(0.01)
        assert process.end() == 0
        assert sorted(process.read_rest(5)) == [
            ("report", b'{"metric": ["a", 1, 2.0]}'),
            ("stderr", b"no line end"),
            ("stdout", b"out"),
        ]


def test_stop_requests_arrive_and_end_kills_the_group(tmp_path: Path) -> None:
    with start(GUARDED, tmp_path) as process:
        child = int(read_until(process, "child").split()[1])
        process.request_stop(Stop.DRAIN)
        assert read_until(process, "received") == 'received {"stop": "drain"}'
        assert not process.has_ended()
    assert is_gone(process.pid)
    assert is_gone(child)


def test_group_ends_when_its_stdin_closes(tmp_path: Path) -> None:
    # The process at the other end of the pipe is killed, so it cannot clean up.
    code = f"""
import pathlib, sys
from tests.workers.test_process import GUARDED, read_until, start
process = start(GUARDED, pathlib.Path({str(tmp_path)!r}))
print("pids", process.pid, read_until(process, "child").split()[1], flush=True)
import time
time.sleep(100)
"""
    with start(code, tmp_path) as parent:
        _, *pids = read_until(parent, "pids").split()
        assert not any(is_gone(int(pid)) for pid in pids)
        parent.signal(signal.SIGKILL)
        deadline = time.monotonic() + 5
        while not all(is_gone(int(pid)) for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_exit_status_of_a_killed_process_is_its_signal(tmp_path: Path) -> None:
    with start("import time; time.sleep(100)", tmp_path) as process:
        process.signal(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL
        process.request_stop(Stop.CANCEL)
        process.signal(signal.SIGTERM)


def test_lines_are_complete_and_bounded() -> None:
    lines = Lines(longest=5)
    assert list(lines.feed(b"ab")) == []
    assert list(lines.feed(b"c\nlonger than that\n\nrest")) == [b"abc", b"longe", b""]
    assert list(lines.end()) == [b"rest"]
    assert list(lines.end()) == []


def test_messages_survive_the_pipe() -> None:
    assert decode(encode("stop", "drain")) == ("stop", "drain")
    kind, (name, step, value) = decode(encode("metric", ["loss", 3, float("inf")]))
    assert (kind, name, step, value) == ("metric", "loss", 3, float("inf"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_only_metrics_may_be_infinite(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode("ended", {"outputs": {"loss": value}})


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"a": 1, "b": 2}', b"\xff"])
def test_invalid_messages_are_rejected(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode(line)


def test_trainers_see_no_credentials_and_only_their_device() -> None:
    secret = {
        "DATABASE_URL": "postgresql://u:secret@h/d",
        "PARETOFIT_DATABASE_URL": "secret",
        "REDIS_URL": "secret",
        "PARETOFIT_REDIS_URL": "secret",
        "PARETOFIT_BOOTSTRAP_KEY": "secret",
        "PARETOFIT_BLOB_URL": "s3://secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_PROFILE": "secret",
        "PGPASSWORD": "secret",
    }
    plain = {"PATH": "/bin", "PARETOFIT_METHODS": "a,b", "PARETOFIT_HOME": "/h", "CUDA_VISIBLE_DEVICES": "4,7"}
    kept = scrubbed(secret | plain, device="cuda:1", threads=3)
    assert "secret" not in " ".join(kept.values())
    assert kept["PARETOFIT_METHODS"] == "a,b"
    assert (kept["CUDA_VISIBLE_DEVICES"], kept["OMP_NUM_THREADS"]) == ("7", "3")
    assert scrubbed(plain, device="cpu", threads=1)["CUDA_VISIBLE_DEVICES"] == ""
    assert scrubbed({}, device="cuda:2", threads=1)["CUDA_VISIBLE_DEVICES"] == "2"
