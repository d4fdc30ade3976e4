"""A worker's processes share its places for long jobs."""

from __future__ import annotations

import os
import signal

from paretofit.workers.job_slots import JobSlots


def _holder(places: JobSlots) -> tuple[int, int]:
    """The pid of a process that holds a place, and a pipe that says whether it has one."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with places.acquire() as has_place:
            os.write(tell, b"1" if has_place else b"0")
            signal.pause()
        os._exit(0)
    os.close(tell)
    return pid, told


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_place_is_free_again_however_its_process_ends() -> None:
    places = JobSlots(1)
    pid, told = _holder(places)
    try:
        assert os.read(told, 1) == b"1"
        with places.acquire() as has_place:
            assert not has_place
    finally:
        _end(pid)
        os.close(told)
    for _ in range(2):
        with places.acquire() as has_place:
            assert has_place
