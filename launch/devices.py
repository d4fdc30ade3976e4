"""The device slots of this machine: each gets a train worker of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from paretofit.core.cpus import cores
from paretofit.launch.process import LaunchError

_CPU = re.compile(r"cpu(?::(?P<count>[1-9]\d*))?")
_OWN_CORES = 1
"""Left to PostgreSQL, Redis and the API. The threads of an operation wait for each other by spinning: one of them that
has to share its core slows a training by ten times, more than the core could ever add."""
_CUDA = re.compile(r"cuda:(?P<indices>\d+(?:,\d+)*)")


@dataclass(frozen=True, slots=True)
class Slot:
    """A device that one trial has to itself, and its share of the CPU."""

    name: str
    device: str
    threads: int


def slots(devices: str) -> list[Slot]:
    """The slots that `auto | cpu | cpu:N | cuda:i,j | none` names: auto is every CUDA device, else one slot. CPU
    threads are shared out evenly, but for one core that stays with the service.

    Raises LaunchError for another form or a device that is not there.
    """
    if devices == "none":
        return []
    if devices == "auto":
        found = cuda_devices()
        names = [f"cuda:{index}" for index in range(found)] or ["cpu"]
    elif match := _CPU.fullmatch(devices):
        names = ["cpu"] * int(match["count"] or 1)
    elif match := _CUDA.fullmatch(devices):
        indices = [int(index) for index in match["indices"].split(",")]
        found = cuda_devices()
        absent = [index for index in indices if index >= found]
        if absent or len(set(indices)) < len(indices):
            raise LaunchError(
                f"PARETOFIT_DEVICES={devices}: torch sees {found} CUDA devices here, numbered from 0, each to be named "
                "once; `auto` takes all there are, `cpu` needs none"
            )
        names = [f"cuda:{index}" for index in indices]
    else:
        raise LaunchError(
            f"PARETOFIT_DEVICES={devices}: must be auto, cpu, cpu:N (N slots), cuda:i,j (device numbers) or none"
        )
    threads = max(1, (cores() - _OWN_CORES) // len(names))
    return [
        Slot(f"cpu-{number}" if device == "cpu" else device.replace(":", "-"), device, threads)
        for number, device in enumerate(names)
    ]


def cuda_devices() -> int:
    """How many CUDA devices the installed torch sees. Asked of another process: this one never loads torch."""
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
        return 0
    question = "import torch; print(torch.cuda.device_count())"
    answer = subprocess.run([sys.executable, "-P", "-c", question], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise LaunchError(f"torch cannot be asked for its CUDA devices; `--devices cpu` does without:\n{answer.stderr}")
    return int(answer.stdout)
