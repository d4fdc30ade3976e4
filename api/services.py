"""What the endpoints work with: one of each per process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from paretofit.api.event_notifications import EventNotifications
from paretofit.api.metrics import Metrics
from paretofit.api.principal import Authenticator
from paretofit.api.rates import Rates
from paretofit.api.streams import Streams
from paretofit.api.uploads import Uploads
from paretofit.core.settings import Settings
from paretofit.db.blobs import BlobStore
from paretofit.db.engine import transaction


@dataclass(frozen=True, slots=True)
class Services:
    """The settings, the database, the files, the notifications of event streams, who is who, may ask how often and
    follow how much, and what is counted."""

    settings: Settings
    engine: Engine
    blobs: BlobStore
    uploads: Uploads
    notifications: EventNotifications
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
