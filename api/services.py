"""What the endpoints work with: one of each per process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from api.metrics import Metrics
from api.principal import Authenticator
from api.rates import Rates
from api.streams import Streams
from api.uploads import Uploads
from api.wakeups import Wakeups
from db.blobs import BlobStore
from db.engine import transaction
from settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """The settings, the database, the files, the wake-ups of event streams, who is who, may ask how often and
    follow how much, and what is counted."""

    settings: Settings
    engine: Engine
    blobs: BlobStore
    uploads: Uploads
    wakeups: Wakeups
    authenticate: Authenticator
    rates: Rates
    streams: Streams
    metrics: Metrics


def services(request: Request) -> Services:
    """The process's services."""
    found: Services = request.app.state.services
    return found


def _session(service: Annotated[Services, Depends(services)]) -> Iterator[Session]:
    with transaction(service.engine) as session:
        yield session


Service = Annotated[Services, Depends(services)]
# Of scope `function`: the transaction is committed before the answer is sent.
Db = Annotated[Session, Depends(_session, scope="function")]
