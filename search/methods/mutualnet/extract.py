"""A network that the trained one contains, cut out on request."""

from __future__ import annotations

from pathlib import Path

from paretofit.models.architecture import Architecture
from paretofit.models.build import Network
from paretofit.models.trace import Size
from paretofit.search.methods.mutualnet.supernet import load


def extract(supernet: Path, architecture: Architecture, size: Size) -> Network:
    """The narrower network with its statistics at (height, width). Raises ValueError, UncalibratedError
    (LookupError)."""
    return load(supernet).extract(architecture, size)
