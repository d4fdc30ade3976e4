"""Known latencies of the networks of a search, before it measures any."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from paretofit.api.schemas.searches import KnownLatency
from paretofit.db import latencies
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.spec import ResolvedSpec


def known(
    session: Session, tenant: str, spec: ResolvedSpec, candidates: Sequence[Candidate]
) -> dict[str, KnownLatency]:
    """By device of the specification: the latest in the cache, of any machine."""
    if not spec.devices:
        return {}
    keys = [(spec.method.network(spec.dataset, each.config).key, each.input_size) for each in candidates]
    found = {}
    for device in spec.devices:
        measured: dict[tuple[str, tuple[int, int]], float] = {}
        for each in latencies.known(session, tenant, device, {architecture for architecture, _ in keys}):
            measured.setdefault((each.architecture, each.input_size), each.latency.median_ms)
        values = [measured[key] for key in keys if key in measured]
        found[device] = KnownLatency(
            measured=len(values), min_ms=min(values, default=None), max_ms=max(values, default=None)
        )
    return found
