"""The processes of a worker share its slots for long jobs."""

from __future__ import annotations

import os
import signal

from paretofit.workers.job_slots import JobSlots


def _holder(slots: JobSlots) -> tuple[int, int]:
    """Fork a process that acquires a slot. Returns its pid and a pipe with the result."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        with slots.acquire() as has_slot:
            os.write(send, b"1" if has_slot else b"0")
            signal.pause()
        os._exit(0)
    os.close(send)
    return pid, receive


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_slot_is_freed_however_its_holder_ends() -> None:
    slots = JobSlots(1)
    pid, receive = _holder(slots)
    try:
        assert os.read(receive, 1) == b"1"
        with slots.acquire() as has_slot:
            assert not has_slot
    finally:
        _end(pid)
        os.close(receive)
    for _ in range(2):
        with slots.acquire() as has_slot:
            assert has_slot
