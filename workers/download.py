"""The archive of a dataset whose source is a URL or in S3: fetched by the worker, so that the process that reads it
needs no network."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from paretofit.core.http import Outbound, RefusedError
from paretofit.core.settings import Settings
from paretofit.db.blobs import CHUNK
from paretofit.search.contracts.dataset import S3Source, UrlSource

_log: structlog.stdlib.BoundLogger = structlog.get_logger("paretofit.workers.download")
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
# More are the dataset's, which waits without a worker meanwhile.
_RETRIES = 2
_RETRY_TIMEOUT = timedelta(seconds=20)


class UnusableError(ValueError):
    """What the source gives is no archive of this dataset; another try would give the same."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code

    def reasons(self) -> list[dict[str, Any]]:
        """As `paretofit.search.data.ingest` says them."""
        return [{"code": self.code, "detail": str(self)}]


def fetch(
    source: UrlSource | S3Source, path: Path, settings: Settings, outbound: Outbound, check: Callable[[], None]
) -> None:
    """Write the archive to `path`. `check` is called now and then, and may raise.

    Raises UnusableError, and OSError for what another try may mend.
    """
    opened: AbstractContextManager[Iterable[bytes]]
    opened = _object(source) if isinstance(source, S3Source) else _answer(source, outbound)
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file, opened as chunks:
        for chunk in chunks:
            check()
            size += len(chunk)
            if size > settings.max_upload_bytes:
                raise UnusableError(
                    "archive_too_large",
                    f"archives may have {settings.max_upload_bytes:,} bytes (PARETOFIT_MAX_UPLOAD_BYTES): use a "
                    "smaller one",
                )
            if shutil.disk_usage(path.parent).free - len(chunk) < settings.disk_reserve_bytes:
                raise OSError("the disk is too full for the archive (PARETOFIT_DISK_RESERVE_BYTES)")
            digest.update(chunk)
            file.write(chunk)
    if source.sha256 is not None and digest.hexdigest() != source.sha256:
        raise UnusableError("sha256_mismatch", f"the archive has SHA-256 {digest.hexdigest()}, not the one given")


@contextmanager
def _answer(source: UrlSource, outbound: Outbound) -> Iterator[Iterable[bytes]]:
    try:
        with outbound.get(source.url) as answer:
            if answer.status in _BUSY:
                raise OSError(f"the server of the archive answered {answer.status}")
            if answer.status != 200:
                raise UnusableError("url_status", f"the server answered {answer.status}: check the URL")
            yield answer.chunks()
    except RefusedError as error:
        raise UnusableError("url_refused", str(error)) from error
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME:
            raise
        host = urlsplit(source.url).hostname
        raise UnusableError("url_unknown_host", f"no host is called {host}: check the URL") from error


@contextmanager
def _object(source: S3Source) -> Iterator[Iterable[bytes]]:
    """Endpoint and credentials are the environment's, as those of the blob store are."""
    try:
        bucket = S3Store(source.bucket, retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT})
        found = obstore.get(bucket, source.key)
        yield (bytes(chunk) for chunk in found.stream(min_chunk_size=CHUNK))
    except FileNotFoundError as error:
        raise UnusableError("s3_missing", f"there is no {source.url}: check the bucket and the key") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        detail = f"the service may not read {source.url}, or it is not there: check the key and the bucket's policy"
        raise UnusableError("s3_refused", detail) from error
    except BaseError as error:
        # What it says names the operator's endpoint.
        _log.warning("s3_failed", url=source.url, error=str(error))
        raise OSError("the bucket does not answer") from error
