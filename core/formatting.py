"""Formatting of numbers in texts."""

from __future__ import annotations

import re
from typing import Final

_LONG: Final = re.compile(r"(?<![\w.])\d+\.\d{5,}(?:e[+-]?\d+)?(?![\w.])")
_WHOLE: Final = 1000


def round_decimals(text: str) -> str:
    """Round long decimal fractions in a text to four significant digits, or to integers from 1000 on:
    `25x25@0.4169921875` becomes `25x25@0.417`."""
    return _LONG.sub(lambda match: _short(float(match[0])), text)


def count(number: int, noun: str) -> str:
    """A number with its noun in singular or plural: `1 point`, `2 points`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _short(value: float) -> str:
    return f"{value:.4g}" if value < _WHOLE else f"{value:.0f}"
