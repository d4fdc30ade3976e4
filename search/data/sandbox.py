"""Resource limits and sandbox of processes that read untrusted files. Linux."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from pathlib import Path
from typing import Final

from paretofit.search.data import landlock
from paretofit.search.data.limits import IngestLimits

_SET_NO_NEW_PRIVS: Final = 38
_SET_FILTER: Final = 1
_ALL_THREADS: Final = 1
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_ALLOW: Final = 0x7FFF_0000
_KILL: Final = 0x8000_0000
_REFUSE: Final = 0x0005_0000 | errno.EPERM
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_X32: Final = 0x4000_0000  # higher numbers belong to x86's other call ABI

# By architecture: its audit identifier, the number of seccomp(2), then the numbers of the denied calls: network, other
# programs, other processes, and calls with a history of kernel vulnerabilities.
_REFUSED: Final = {
    "x86_64": (
        0xC000_003E,
        317,
        {
            "socket": 41,
            "connect": 42,
            "bind": 49,
            "listen": 50,
            "execve": 59,
            "execveat": 322,
            "kill": 62,
            "tkill": 200,
            "ptrace": 101,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "mount": 165,
            "unshare": 272,
            "setns": 308,
            "bpf": 321,
            "userfaultfd": 323,
            "perf_event_open": 298,
            "keyctl": 250,
            "io_uring_setup": 425,
        },
    ),
    "aarch64": (
        0xC000_00B7,
        277,
        {
            "socket": 198,
            "connect": 203,
            "bind": 200,
            "listen": 201,
            "execve": 221,
            "execveat": 281,
            "kill": 129,
            "tkill": 130,
            "ptrace": 117,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "mount": 40,
            "unshare": 97,
            "setns": 268,
            "bpf": 280,
            "userfaultfd": 282,
            "perf_event_open": 241,
            "keyctl": 219,
            "io_uring_setup": 425,
        },
    ),
}


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def limit(limits: IngestLimits) -> None:
    """Limit this process's memory and CPU time, and disable core dumps."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + limits.max_memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.max_cpu_seconds, limits.max_cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine(*, written: Path, read: Path) -> None:
    """Deny this process and its threads network access, new programs and other processes: the kernel returns EPERM
    (seccomp). With Landlock this thread can only access files in the folder `written`, `read`, and the files of
    programs. Raises OSError if seccomp is unavailable.
    """
    if platform.machine() not in _REFUSED:
        raise OSError(
            f"no list of system calls for {platform.machine()}: uploads cannot be read safely; use a worker on "
            "another architecture"
        )
    architecture, seccomp, calls = _REFUSED[platform.machine()]
    numbers = sorted(calls.values())
    program = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, architecture, yes=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
        # A match jumps over the remaining comparisons and over the result "allowed".
        _step(_AT_LEAST, _X32, yes=len(numbers) + 1),
        *(_step(_EQUAL, number, yes=len(numbers) - index) for index, number in enumerate(numbers)),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _REFUSE),
    ]
    loaded = _Program(len(program), b"".join(program))
    libc = ctypes.CDLL(None, use_errno=True)
    nothing = ctypes.c_ulong(0)
    _checked(libc.prctl(_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), nothing, nothing, nothing))
    landlock.reach_only(written=[written], read=[read])
    _checked(libc.syscall(ctypes.c_long(seccomp), _SET_FILTER, _ALL_THREADS, ctypes.byref(loaded)))


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _checked(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
