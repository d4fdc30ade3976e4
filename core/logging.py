"""Logging: JSON lines on standard error, with the ids of the current context and without secrets."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

_SECRETS: Final = re.compile(
    r"(?P<prefix>://[^/\s:@\"]*:)[^@/\s\"]+(?=@)"  # the password in a URL
    r"|pf_[0-9A-Za-z]{12}_[0-9A-Za-z]{20,}"
    r"|whsec_[0-9A-Za-z+/=]{8,}"
    r"|(?P<word>(?i:bearer)\s+)[^\s\"\\]+"
)
_VARIABLES: Final = ("PARETOFIT_BOOTSTRAP_KEY", "PARETOFIT_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_URLS: Final = ("DATABASE_URL", "PARETOFIT_DATABASE_URL", "REDIS_URL", "PARETOFIT_REDIS_URL")
_MIN_SECRET_LENGTH: Final = 8
"""Shorter secrets from the environment are not redacted: they would match unrelated text."""


def configure_logging(level: str) -> None:
    """Log to standard error as JSON lines, including the logs of libraries.

    API keys, webhook secrets and passwords in URLs are redacted from every line. Ids (request_id, search, trial,
    epoch) are bound by `structlog.contextvars.bound_contextvars`.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Local variables may contain secrets, and are long.
                ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
                _render,
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


_json = structlog.processors.JSONRenderer(default=str)


def _render(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """Render as JSON without secrets: those of a known format and those in this process's environment."""
    line = str(_json(logger, method, event))
    line = _SECRETS.sub(lambda match: f"{match['prefix'] or match['word'] or ''}[secret]", line)
    for secret in _known_secrets():
        line = line.replace(secret, "[secret]")
    return line


@lru_cache(maxsize=1)
def _known_secrets() -> tuple[str, ...]:
    secrets = [os.environ.get(name) for name in _VARIABLES]
    secrets += [urlsplit(os.environ.get(name, "")).password for name in _URLS]
    return tuple(secret for secret in secrets if secret is not None and len(secret) >= _MIN_SECRET_LENGTH)
