"""What a key may be allowed to do, and what a request needs."""

from __future__ import annotations

import re
from typing import Final

from paretofit.api.schemas.access import Scope

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

_COMPUTES: Final = re.compile(r"/v1/searches/(estimate|[^/]+/front/select)")
_OWN: Final = frozenset({"session"})
_MANAGED: Final = frozenset({"api-keys", "webhooks", "audit"})
_SERVICE: Final = frozenset({"tenants"})


def guarded(path: str) -> bool:
    """Whether a request needs a key, where keys are needed at all."""
    return path == "/v1" or path.startswith("/v1/") or path == "/metrics"


def needed(method: str, path: str) -> Scope | None:
    """The scope that a guarded request needs; None: any key will do."""
    if path == "/metrics":
        return "metrics"
    resource = path.split("/")[2] if path.count("/") > 1 else ""
    if resource in _OWN:
        return None
    if resource in _SERVICE:
        return "admin"
    if resource in _MANAGED:
        return "manage"
    return "read" if method in SAFE or _COMPUTES.fullmatch(path) else "write"
