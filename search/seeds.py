"""Seeds of their own for a search's trials, the same wherever the search runs."""

from __future__ import annotations

import hashlib


def trial_seed(search_seed: int, number: int) -> int:
    """The seed of a trial, in [0, 2**31)."""
    digest = hashlib.sha256(f"{search_seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
