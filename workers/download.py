"""The archive of a dataset whose source is a URL: fetched by the worker, so that the process that reads it needs no
network."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outbound import Outbound, RefusedError
from search.spec import UrlSource
from settings import Settings

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class UnusableError(ValueError):
    """What the URL gives is no archive of this dataset; another try would give the same."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code

    def reasons(self) -> list[dict[str, Any]]:
        """As `search.data.ingest` says them."""
        return [{"code": self.code, "detail": str(self)}]


def fetch(source: UrlSource, path: Path, settings: Settings, outbound: Outbound, check: Callable[[], None]) -> None:
    """Write the archive to `path`. `check` is called now and then, and may raise.

    Raises UnusableError, and OSError for what another try may mend.
    """
    try:
        with outbound.get(source.url) as answer, path.open("xb") as file:
            if answer.status in _BUSY:
                raise OSError(f"the server of the archive answered {answer.status}")
            if answer.status != 200:
                raise UnusableError("url_status", f"the server answered {answer.status}: check the URL")
            digest, size = hashlib.sha256(), 0
            for chunk in answer.chunks():
                check()
                size += len(chunk)
                if size > settings.max_upload_bytes:
                    raise UnusableError(
                        "archive_too_large",
                        f"archives may have {settings.max_upload_bytes:,} bytes (PARETOFIT_MAX_UPLOAD_BYTES): use a smaller one",
                    )
                if shutil.disk_usage(path.parent).free - len(chunk) < settings.disk_reserve_bytes:
                    raise OSError("the disk is too full for the archive (PARETOFIT_DISK_RESERVE_BYTES)")
                digest.update(chunk)
                file.write(chunk)
    except RefusedError as error:
        raise UnusableError("url_refused", str(error)) from error
    if source.sha256 is not None and digest.hexdigest() != source.sha256:
        raise UnusableError("sha256_mismatch", f"the archive has SHA-256 {digest.hexdigest()}, not the one given")
