"""The services of a process, which the endpoints share."""

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
    """Settings, database, blob store, uploads, event notifications, authentication, rate limits, event streams and
    metrics."""

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
    """The services of the process."""
    found: Services = request.app.state.services
    return found


def _session(service: Annotated[Services, Depends(services)]) -> Iterator[Session]:
    with transaction(service.engine) as session:
        yield session


Service = Annotated[Services, Depends(services)]
# Scope `function`: the transaction commits before the response is sent.
Db = Annotated[Session, Depends(_session, scope="function")]
