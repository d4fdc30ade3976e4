"""Numbers within texts as people read them."""

from __future__ import annotations

import re
from typing import Final

_LONG: Final = re.compile(r"(?<![\w.])\d+\.\d{5,}(?:e[+-]?\d+)?(?![\w.])")
_WHOLE: Final = 1000


def round_decimals(text: str) -> str:
    """A text whose long decimal fractions have four significant digits, or none if they are large: `25x25@0.4169921875`
    as `25x25@0.417`."""
    return _LONG.sub(lambda found: _short(float(found[0])), text)


def _short(value: float) -> str:
    return f"{value:.4g}" if value < _WHOLE else f"{value:.0f}"
