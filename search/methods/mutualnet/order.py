"""In which order, and which together, the networks of a sweep are measured. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paretofit.search.methods.method import Candidate
from paretofit.search.methods.order import evenly

AT_LIMIT: Final = 8
"""Candidates that are measured even at a limit, spread over the costs: they come first."""
GROUP_MACS: Final = 10**12
"""Multiply-accumulates of networks that are measured together: about a minute."""


def spread_first(candidates: list[Candidate]) -> list[Candidate]:
    """`AT_LIMIT` candidates evenly over the costs, then the others; both by input size, whose inputs are kept."""
    spread = evenly(candidates, AT_LIMIT)
    first = {candidate.key for candidate in spread}
    return by_size([*spread, *(candidate for candidate in candidates if candidate.key not in first)])


def by_size(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first `AT_LIMIT` by input size, whose inputs are kept, then the others so."""
    halves = candidates[:AT_LIMIT], candidates[AT_LIMIT:]
    return [candidate for half in halves for candidate in sorted(half, key=lambda candidate: candidate.input_size)]


def groups(candidates: Sequence[Candidate], images: int) -> list[list[Candidate]]:
    """Those to measure together on so many images: neighbours of one input size, as far as their work is not so long
    that a trial which is to end, or to be gone on with, would lose much. Those that come first at a limit stay
    apart."""
    found: list[list[Candidate]] = []
    work = 0.0
    for at, candidate in enumerate(candidates):
        more = candidate.cost["macs"] * images
        last = found[-1] if found and at != AT_LIMIT else None
        if last and last[0].input_size == candidate.input_size and work + more <= GROUP_MACS:
            last.append(candidate)
            work += more
        else:
            found.append([candidate])
            work = more
    return found
