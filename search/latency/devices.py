"""Devices that latencies are measured on: a runtime on a worker's hardware. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from paretofit.core.cpus import available_cpus
from paretofit.search.contracts.latency import DEVICES, Device

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "ncnn": ("ncnn", "pnnx"), "torch": ("torch",)}
)
"""Distributions that a runtime needs: the runtime, and the writer of its files."""


def offered(slot: str) -> list[str]:
    """The devices that a worker of this slot (`cpu`, `cuda:0`) can measure on, by its installed runtimes."""
    kinds = {"cpu", slot.partition(":")[0]}
    return [name for name, device in DEVICES.items() if device.kind in kinds and not _lacking(device)]


def describe(name: str) -> dict[str, Any]:
    """Description of the machine as far as it affects latency: machines with equal descriptions share measurements.

    Raises KeyError for an unknown device, LookupError if its runtime is not installed.
    """
    device = DEVICES[name]
    if lacking := _lacking(device):
        raise LookupError(
            f"device {name}: {', '.join(lacking)} is not installed on this worker: install it, or choose another device"
        )
    described: dict[str, Any] = {
        "processor": _processor(),
        "cores": available_cpus(),
        device.runtime: version(device.runtime),
    }
    return described | ({"gpus": _gpus()} if device.kind == "cuda" else {})


def _lacking(device: Device) -> list[str]:
    return [distribution for distribution in _NEEDS[device.runtime] if not _is_installed(distribution)]


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    # Without a model name, as on ARM: identifiers of the maker and part.
    named = re.search(r"model name\s*:\s*(.+)", text)
    parts = re.findall(r"^CPU (?:implementer|part)\s*:\s*(\S+)", text, re.MULTILINE)
    return named[1] if named else " ".join(sorted(set(parts))) or "unknown"


def _gpus() -> list[str]:
    """The models of all GPUs."""
    about = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    found = [re.search(r"Model:\s*(.+)", path.read_text()) for path in about]
    return [model[1].strip() for model in found if model]
