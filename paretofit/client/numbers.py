"""Parsing and formatting of numbers, bytes and durations: 5M, 300k, 1.2G, 90d."""

from __future__ import annotations

import math
import re

_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*([kmgbt]?)", re.IGNORECASE)


def parse_quantity(text: str) -> float:
    """Parse a positive number with an optional suffix k, M, G (or B) or T. Raises ValueError."""
    match = _QUANTITY.fullmatch(text.replace(",", "").replace("_", "").strip())
    value = float(match[1]) * _FACTORS[match[2].lower()] if match else 0.0
    if not 0 < value < math.inf:
        raise ValueError(f"invalid quantity {text!r}; give a positive number such as 5000000, 5M or 300k")
    return value


def format_quantity(value: float) -> str:
    """Format with three significant digits and a suffix: 2.96M."""
    number, suffix = _scaled(value)
    return f"{number:#.3g}".rstrip(".") + suffix if suffix else f"{number:.3g}"


def format_tick(value: float) -> str:
    """Format an axis tick with as few digits as possible: 200k, 1M."""
    return "{:.4g}{}".format(*_scaled(value))


def format_bytes(value: float) -> str:
    """Format bytes in decimal units: 1.2 MB."""
    number, suffix = _scaled(value)
    return f"{number:.3g} {suffix}B"


def parse_seconds(text: str) -> int:
    """Parse `90d`, `12h`, `30m`, `45s` or `45` to seconds. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", text.strip())
    if match is None:
        raise ValueError(f"invalid duration {text!r}; give a number with s, m, h or d, such as 90d")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def parse_milliseconds(text: str) -> float:
    """Parse `5ms`, `0.8 ms`, `1s` or `5` to milliseconds. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|us)?", text.strip().lower())
    value = float(match[1]) * {None: 1.0, "ms": 1.0, "s": 1000.0, "us": 0.001}[match[2]] if match else 0.0
    if not 0 < value < math.inf:
        hint = "; write a decimal point" if "," in text else ""
        raise ValueError(f"invalid latency {text!r}; give milliseconds such as 5ms or 0.8{hint}")
    return value


def _scaled(value: float) -> tuple[float, str]:
    for suffix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * factor:
            return value / factor, suffix
    return value, ""


def format_seconds(seconds: float) -> str:
    """Format a duration as 42 s, 3 min 20 s or 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
