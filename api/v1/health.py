"""Liveness and readiness."""

from __future__ import annotations

from functools import lru_cache

from fastapi import APIRouter, Response
from sqlalchemy.exc import OperationalError

from paretofit.api.schemas.health import Health, Readiness
from paretofit.api.services import Service, Services

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="get_health")
def health() -> Health:
    """Check that the process responds."""
    return Health(status="ok")


@router.get("/readyz", operation_id="get_readiness", responses={503: {"model": Readiness}})
def readiness(service: Service, response: Response) -> Readiness:
    """Check that requests can be served: 503 without the database or its migrations. Redis may be unavailable."""
    needed, redis = _database(service), _redis(service)
    if set(needed.values()) != {"ok"}:
        response.status_code = 503
        status = "unavailable"
    else:
        status = "ready" if redis == "ok" else "degraded"
    return Readiness.model_validate({"status": status, "checks": {**needed, "redis": redis}})


# Alembic and redis are imported on first use: they would delay startup by 0.2 s and 0.1 s.
def _database(service: Services) -> dict[str, str]:
    from paretofit.db import migrate

    try:
        at = migrate.current(service.engine)
    except OperationalError:
        return {"postgres": "unavailable"}
    head = _head()
    return {
        "postgres": "ok",
        "migrations": "ok" if at == head else f"at {at}, not {head}: run python -m paretofit.db.migrate",
    }


def _redis(service: Services) -> str:
    url = service.settings.redis_url
    if url is None:
        return "REDIS_URL is not set"
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1) as redis:
            redis.ping()
    except (RedisError, OSError):
        return "unavailable: queued work resumes when it recovers"
    return "ok"


@lru_cache(maxsize=1)
def _head() -> str:
    from paretofit.db import migrate

    return migrate.head()
