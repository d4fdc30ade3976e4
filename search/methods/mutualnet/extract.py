"""A network that the trained one contains, cut out on request."""

from __future__ import annotations

from pathlib import Path

from models.architecture import Architecture
from models.build import Network
from models.trace import Size
from search.methods.mutualnet.supernet import load


def extract(supernet: Path, architecture: Architecture, size: Size) -> Network:
    """The narrower network with its statistics at (height, width). Raises ValueError, UncalibratedError (LookupError)."""
    return load(supernet).extract(architecture, size)
