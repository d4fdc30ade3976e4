"""Trainers that are forked from a process with torch."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from paretofit.search.contracts.spec import SearchSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.store import Dataset
from paretofit.workers.environment import here
from paretofit.workers.process import Process
from paretofit.workers.trainer import write_order
from paretofit.workers.trainer_pool import TrainerPool
from tests.search.conftest import write_stripes

pytestmark = pytest.mark.integration

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="module")
def trainers() -> Iterator[TrainerPool]:
    environment = here(device="cpu", threads=2) | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment["PARETOFIT_METHODS"] = "paretofit.search.methods.mutualnet"
    trainers = TrainerPool(environment)
    yield trainers
    trainers.cool_down()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def order(tmp_path: Path) -> Path:
    """The order file of an endless MutualNet training with 6 steps per epoch."""
    dataset = write_stripes(tmp_path / "dataset", 16)
    method = {"kind": "mutualnet", "family": "wrn_10_1", "base_width": 1.0, "batch_size": 16, "epochs": 10_000}
    submitted = SearchSpec.model_validate({"name": "stripes", "dataset_id": "local", "method": method})
    spec = submitted.resolve(Dataset.open(dataset).profile)
    (tmp_path / "work").mkdir()
    order = tmp_path / "order.json"
    write_order(order, Trial(0, spec, {"stage": "train", "epochs": 10_000}, dataset, tmp_path / "work"))
    return order


def read_until(process: Process, source: str, start: str, timeout: float = 60.0) -> str:
    deadline = time.monotonic() + timeout
    seen = []
    while time.monotonic() < deadline:
        for name, line in process.read(0.1):
            seen.append((name, line.decode()))
            if name == source and line.decode().startswith(start):
                return line.decode()
    raise AssertionError(f"no {start} on {source}: {seen[-20:]}")


def await_end(process: Process) -> None:
    deadline = time.monotonic() + 30
    while not process.has_ended():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_forked_trainer_trains_on_several_threads(trainers: TrainerPool, order: Path) -> None:
    # A parallel region hangs in a process that was forked after a parallel region in its parent.
    for _ in range(2):
        with trainers.start(order) as process:
            assert "paretofit.workers.forkserver" in psutil.Process(process.pid).cmdline()
            assert psutil.Process(process.pid).ppid() == os.getpid()
            assert os.getsid(process.pid) == process.pid
            read_until(process, "report", '{"metric": ["progress"')
            assert psutil.Process(process.pid).cwd() == str(order.parent)
            process.request_stop(Stop.LIMIT)
            ended = json.loads(read_until(process, "report", '{"ended"'))["ended"]
            assert (ended["stop_seen"], ended["outputs"]["batch_size"]) == ("limit", 16)
            await_end(process)
            assert process.end() == 0
            (order.parent / "work" / "supernet.safetensors").unlink()


def test_end_of_a_trainer_is_always_detected(trainers: TrainerPool, order: Path) -> None:
    with trainers.start(order) as process:
        read_until(process, "report", '{"metric"')
        process.signal(signal.SIGABRT)
        read_until(process, "stderr", "Fatal Python error: Aborted")
        await_end(process)
        assert process.end() == -signal.SIGABRT
    assert not psutil.pid_exists(process.pid)


def test_trainer_starts_without_a_warm_process(trainers: TrainerPool, order: Path) -> None:
    trainers.cool_down()
    with trainers.start(order, cancelled=lambda: True) as process:
        assert "paretofit.workers.trainer" in _command(process.pid)
        process.signal(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL


def test_killed_warm_process_is_replaced(trainers: TrainerPool, order: Path) -> None:
    with trainers.start(order) as process:
        first = _warm(process)
        first.kill()
        first.wait(timeout=30)
    with trainers.start(order) as process:
        assert "paretofit.workers.forkserver" in psutil.Process(process.pid).cmdline()
        assert _warm(process).pid != first.pid


def _command(pid: int) -> list[str]:
    """The command line of a process, once it has one."""
    deadline = time.monotonic() + 30
    while not (command := psutil.Process(pid).cmdline()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return command


def _warm(trainer: Process) -> psutil.Process:
    """The warm process: the other child of this process with the command line of the trainer."""
    command = psutil.Process(trainer.pid).cmdline()
    children = [child for child in psutil.Process().children() if child.pid != trainer.pid]
    (warm,) = [child for child in children if child.cmdline() == command]
    return warm
