"""Points of the member with shared weights refer to its supernet."""

from __future__ import annotations

from paretofit.search.methods.mutualnet.supernet import extract

__all__ = ["extract"]
