"""What a network's latency can be measured on: a runtime on some of a worker's hardware. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from paretofit.core.cpus import cores
from paretofit.search.contracts.latency import DEVICES, Device

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "ncnn": ("ncnn", "pnnx"), "torch": ("torch",)}
)
"""Distributions of a runtime: it, and what writes its files."""


def offered(slot: str) -> list[str]:
    """The devices that a worker of this slot (`cpu`, `cuda:0`) can measure on: their runtimes are installed here."""
    kinds = {"cpu", slot.partition(":")[0]}
    return [name for name, device in DEVICES.items() if device.kind in kinds and not _lacking(device)]


def describe(name: str) -> dict[str, Any]:
    """The machine, as far as a latency depends on it: what is equal in this may share measurements.

    Raises KeyError for an unknown device, LookupError if its runtime is not installed here.
    """
    device = DEVICES[name]
    if lacking := _lacking(device):
        raise LookupError(f"device {name}: {', '.join(lacking)} is not installed here")
    described: dict[str, Any] = {
        "processor": _processor(),
        "cores": cores(),
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
    # Without a model name, as on ARM: what tells parts of one maker apart.
    named = re.search(r"model name\s*:\s*(.+)", text)
    parts = re.findall(r"^CPU (?:implementer|part)\s*:\s*(\S+)", text, re.MULTILINE)
    return named[1] if named else " ".join(sorted(set(parts))) or "unknown"


def _gpus() -> list[str]:
    """The models of all GPUs."""
    about = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    found = [re.search(r"Model:\s*(.+)", path.read_text()) for path in about]
    return [model[1].strip() for model in found if model]
