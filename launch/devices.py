"""The device slots of this machine, one train worker each."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from paretofit.core.cpus import available_cpus
from paretofit.launch.process import LaunchError

_CPU = re.compile(r"cpu(?::(?P<count>[1-9]\d*))?")
_RESERVED_CPUS = 1
"""CPUs reserved for PostgreSQL, Redis and the API. The threads of an operation synchronize by spinning, so one thread
that shares its core slows a training tenfold."""
_CUDA = re.compile(r"cuda:(?P<indices>\d+(?:,\d+)*)")


@dataclass(frozen=True, slots=True)
class Slot:
    """A device for one trial at a time, with its share of the CPU threads."""

    name: str
    device: str
    threads: int


def slots(devices: str) -> list[Slot]:
    """The slots of `auto | cpu | cpu:N | cuda:i,j | none`; auto: every CUDA device, else one CPU slot. The CPU threads
    are divided evenly, except for one that is reserved for the service.

    Raises LaunchError for an invalid value or a missing device.
    """
    if devices == "none":
        return []
    if devices == "auto":
        count = cuda_devices()
        names = [f"cuda:{index}" for index in range(count)] or ["cpu"]
    elif match := _CPU.fullmatch(devices):
        names = ["cpu"] * int(match["count"] or 1)
    elif match := _CUDA.fullmatch(devices):
        indices = [int(index) for index in match["indices"].split(",")]
        count = cuda_devices()
        missing = [index for index in indices if index >= count]
        if missing or len(set(indices)) < len(indices):
            raise LaunchError(
                f"PARETOFIT_DEVICES={devices} is invalid: torch sees {count} CUDA devices, numbered from 0. List each "
                "at most once, or use `auto` for all of them or `cpu` for none"
            )
        names = [f"cuda:{index}" for index in indices]
    else:
        raise LaunchError(
            f"PARETOFIT_DEVICES={devices} is invalid: use auto, cpu, cpu:N (N slots), cuda:i,j (device numbers) or none"
        )
    threads = max(1, (available_cpus() - _RESERVED_CPUS) // len(names))
    return [
        Slot(f"cpu-{number}" if device == "cpu" else device.replace(":", "-"), device, threads)
        for number, device in enumerate(names)
    ]


def cuda_devices() -> int:
    """Number of CUDA devices that torch sees, determined in another process: this one never imports torch."""
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
        return 0
    script = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LaunchError(
            f"torch cannot list its CUDA devices; fix the error below, or start with `--devices cpu`:\n{done.stderr}"
        )
    return int(done.stdout)
