"""The HTTP application: `create_app(settings)`. Importing it is cheap and loads no torch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import RouteContext, iter_route_contexts

from paretofit.api import access, error_handlers, problems
from paretofit.api.audit_log import AuditLog
from paretofit.api.binding import require_key_beyond_loopback
from paretofit.api.event_notifications import EventNotifications
from paretofit.api.headers import SecurityHeaders
from paretofit.api.limits import BodyLimit, EarlyAnswer
from paretofit.api.metrics import Metrics
from paretofit.api.pages import router as pages
from paretofit.api.principal import COOKIE, Authenticator
from paretofit.api.rates import Rates
from paretofit.api.request_log import RequestLog
from paretofit.api.security import Guard
from paretofit.api.services import Services
from paretofit.api.streams import Streams
from paretofit.api.uploads import Uploads
from paretofit.api.v1 import (
    artifacts,
    audit,
    datasets,
    devices,
    events,
    exports,
    fronts,
    health,
    keys,
    methods,
    points,
    prometheus,
    reference,
    search_control,
    searches,
    session,
    studies,
    tenants,
    trials,
    webhooks,
    weights,
    workers,
)
from paretofit.core.settings import Settings, get_settings
from paretofit.db.blobs import open_store
from paretofit.db.engine import connect
from paretofit.search import registry

_CONNECTIONS = 10


def create_app(settings: Settings | None = None) -> FastAPI:
    """Create the application, by default with the settings of the process.

    Raises ValueError for an address that requires an API key, RuntimeError without a database, LookupError for a route
    without a scope.
    """
    settings = settings or get_settings()
    require_key_beyond_loopback(settings)
    # Before the routes are built, as a request body is a specification.
    registry.setup()
    app = FastAPI(
        title="Paretofit",
        version="1",
        description="Searches for efficient vision networks: a dataset and a budget in, a Pareto front out.",
        lifespan=_lifespan,
        # FastAPI's pages load scripts from another host.
        docs_url=None,
        redoc_url=None,
    )
    metrics = Metrics()
    engine = connect(
        settings.sqlalchemy_url, pool_size=_CONNECTIONS, application="paretofit-api", on_wait=metrics.waited
    )
    authenticate = Authenticator(settings, engine)
    rates = Rates(settings)
    app.state.services = Services(
        settings=settings,
        engine=engine,
        blobs=open_store(settings.blobs),
        uploads=Uploads(
            settings.home / "uploads",
            max_bytes=settings.max_upload_bytes,
            reserve_bytes=settings.disk_reserve_bytes,
        ),
        notifications=EventNotifications(settings.redis_url),
        authenticate=authenticate,
        rates=rates,
        streams=Streams(settings.max_event_streams),
        metrics=metrics,
    )
    for resource in (
        datasets,
        weights,
        searches,
        search_control,
        fronts,
        studies,
        trials,
        events,
        points,
        exports,
        artifacts,
        methods,
        workers,
        devices,
        session,
        keys,
        tenants,
        webhooks,
        audit,
    ):
        app.include_router(resource.router, prefix="/v1")
    app.include_router(health.router)
    app.include_router(prometheus.router)
    app.include_router(reference.router)
    app.include_router(pages.router)
    for route in iter_route_contexts(app.routes):
        if access.requires_auth(route.path or ""):
            access.required_scopes(route)
    error_handlers.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Guard, settings=settings, authenticate=authenticate, rates=rates)
    app.add_middleware(AuditLog, engine=engine)
    app.add_middleware(EarlyAnswer)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog, metrics=metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    listener = asyncio.create_task(services.notifications.listen())
    try:
        yield
    finally:
        services.notifications.close()
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        services.engine.dispose()


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        components = document["components"]
        components["schemas"] |= problems.schemas()
        components["securitySchemes"] = {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key; the list names the required scope.",
            },
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": COOKIE,
                "description": "The session of a signed-in browser.",
            },
        }
        for route in iter_route_contexts(app.routes):
            for method in route.methods or ():
                if (operation := document["paths"].get(route.path, {}).get(method.lower())) is not None:
                    operation["security"] = _security(route)
                    operation["summary"] = _summary(operation["operationId"])
        app.openapi_schema = document
    return app.openapi_schema


def _summary(operation_id: str) -> str:
    """`list_api_keys` as List API keys."""
    return operation_id.replace("_", " ").capitalize().replace(" api ", " API ")


def _security(route: RouteContext) -> list[dict[str, list[str]]]:
    """The OpenAPI security requirement of an operation; it applies if a bootstrap key is set."""
    if not access.requires_auth(route.path or ""):
        return [{}]
    scopes = access.required_scopes(route)
    return [{}, {"key": scopes}, {"session": scopes}]
