"""Formatting of numbers."""

from __future__ import annotations

import math
from typing import Final

from paretofit.core.formatting import count

UNKNOWN: Final = "\N{EN DASH}"
_SUFFIXES: Final = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_FIRST: Final = ("selection_top1", "top1", "macs", "params", "peak_activation_bytes", "latency_ms", "latency_p95_ms")
_LABELS: Final = {
    "macs": "MACs",
    "params": "Parameters",
    "peak_activation_bytes": "Peak activation memory",
    "pool_inputs": "Inputs of the last pooling",
    "dense_macs": "MACs without masks",
    "dense_ms": "Time without masks",
    "fast_macs": "MACs of the fast form",
    "latency_ms": "Latency",
    "latency_p95_ms": "Latency, 95th percentile",
    "sparse_ms": "Time of the sparse form",
    "selection_top1": "Accuracy, selection split",
    "top1": "Accuracy, report split",
}


def label(metric: str) -> str:
    """The label of a metric: `latency_ms:DEVICE` as Latency on DEVICE (ms)."""
    name, _, device = metric.partition(":")
    known = _LABELS.get(name, name.replace("_", " ").capitalize())
    return f"{known} on {device} (ms)" if device else known


def axis_label(metric: str) -> str:
    """The label of a metric for numbers without a unit."""
    return f"{label(metric)} (bytes)" if metric.endswith("_bytes") else label(metric)


def order(metric: str) -> tuple[int, str]:
    """Sort key of metrics: the most common first."""
    name = metric.partition(":")[0]
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), metric)


def quantity(value: float | None) -> str:
    """Three significant digits with a suffix: 2.96M."""
    if value is None:
        return UNKNOWN
    for suffix, factor in _SUFFIXES:
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:#.3g}".rstrip(".") + suffix
    return f"{value:.3g}"


def short(value: float) -> str:
    """For axis ticks, without trailing zeros: 3M."""
    for suffix, factor in _SUFFIXES:
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def typed(value: float) -> str:
    """As a user would type it, in full: 6M, 1234567."""
    return min((f"{value / factor:.15g}{suffix}" for suffix, factor in (("", 1.0), *_SUFFIXES)), key=len)


def bytes_(value: float | None) -> str:
    """Bytes in decimal units: 1.2 MB."""
    if value is None:
        return UNKNOWN
    for suffix, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {suffix}"
    return f"{value:.0f} B"


def percent(value: float | None) -> str:
    """A fraction as 91.30 %."""
    return UNKNOWN if value is None else f"{100 * value:.2f} %"


def duration(seconds: float | None) -> str:
    """42 s, 3 min 20 s or 2 h 05 min."""
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def relative(seconds: float) -> str:
    """A time by its distance from now: 3 minutes ago, in 2 days."""
    if abs(seconds) < 60:
        return "in less than a minute" if seconds > 0 else "just now"
    amount = ""
    for unit, size, limit in (("minute", 60, 60), ("hour", 3600, 24), ("day", 86400, math.inf)):
        number = math.ceil(seconds / size) if seconds > 0 else int(-seconds // size)
        amount = amount or (count(number, unit) if number < limit else "")
    return f"in {amount}" if seconds > 0 else f"{amount} ago"


def cost(value: float | None, metric: str) -> str:
    """A metric's value in its unit."""
    name = metric.partition(":")[0]
    if name.startswith("latency") or name.endswith("_ms"):
        return UNKNOWN if value is None else f"{value:.3g} ms"
    if name.endswith("_bytes"):
        return bytes_(value)
    return percent(value) if "top1" in name else quantity(value)
