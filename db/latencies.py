"""The cache of measured latencies, shared by all searches of a tenant on machines with the same description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from paretofit.db.tables import LatencyRow
from paretofit.search.contracts.latency import Latency, Measured

_KEY = ("tenant_id", "architecture", "height", "width", "batch", "device", "machine")


def digest(machine: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a machine's description (`paretofit.search.latency.devices.describe`)."""
    return hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:16]


def record(session: Session, tenant: str, measured: Iterable[Measured]) -> None:
    """Store measurements; a later one of the same key replaces the earlier."""
    last = {
        (
            measurement.architecture,
            measurement.input_size,
            measurement.batch,
            measurement.device,
            digest(measurement.machine),
        ): measurement
        for measurement in measured
    }
    for (architecture, (height, width), batch, device, machine), measurement in sorted(
        last.items(), key=lambda item: item[0]
    ):
        content = {
            "description": measurement.machine,
            **measurement.latency.model_dump(),
            "measured_at": func.clock_timestamp(),
        }
        session.execute(
            insert(LatencyRow)
            .values(
                tenant_id=tenant,
                architecture=architecture,
                height=height,
                width=width,
                batch=batch,
                device=device,
                machine=machine,
                **content,
            )
            .on_conflict_do_update(index_elements=_KEY, set_=content)
        )


def known(
    session: Session,
    tenant: str,
    device: str,
    architectures: Collection[str],
    *,
    machine: Mapping[str, Any] | None = None,
) -> Sequence[Measured]:
    """The stored latencies of these architectures (keys) on a device, latest first; of one machine, or of any."""
    query = select(LatencyRow).where(
        LatencyRow.tenant_id == tenant, LatencyRow.device == device, LatencyRow.architecture.in_(architectures)
    )
    if machine is not None:
        query = query.where(LatencyRow.machine == digest(machine))
    rows = session.scalars(query.order_by(LatencyRow.measured_at.desc(), LatencyRow.machine))
    return [
        Measured(
            architecture=row.architecture,
            input_size=(row.height, row.width),
            batch=row.batch,
            device=row.device,
            machine=row.description,
            latency=Latency(median_ms=row.median_ms, p95_ms=row.p95_ms, runs=row.runs),
        )
        for row in rows
    ]
