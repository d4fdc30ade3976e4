"""Downloads the archive of a dataset from a URL or S3 in the worker, so that the process that reads it needs no
network."""

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
_RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
# Further retries are those of the job, which do not occupy a worker.
_RETRIES = 2
_RETRY_TIMEOUT = timedelta(seconds=20)


class UnusableError(ValueError):
    """The source does not provide the archive, and a retry would not help."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code

    def reasons(self) -> list[dict[str, Any]]:
        """The errors in the form of `paretofit.search.data.ingest`."""
        return [{"code": self.code, "detail": str(self)}]


def fetch(
    source: UrlSource | S3Source, path: Path, settings: Settings, outbound: Outbound, check: Callable[[], None]
) -> None:
    """Download the archive to `path`. `check` is called periodically and may raise.

    Raises UnusableError, and OSError if a retry may help.
    """
    opened: AbstractContextManager[Iterable[bytes]]
    opened = _open_s3(source) if isinstance(source, S3Source) else _open_url(source, outbound)
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file, opened as chunks:
        for chunk in chunks:
            check()
            size += len(chunk)
            if size > settings.max_upload_bytes:
                raise UnusableError(
                    "archive_too_large",
                    f"the archive is larger than {settings.max_upload_bytes:,} bytes: use a smaller one, or ask the "
                    "operator to raise PARETOFIT_MAX_UPLOAD_BYTES",
                )
            if shutil.disk_usage(path.parent).free - len(chunk) < settings.disk_reserve_bytes:
                raise OSError(
                    "the disk is too full for the archive: free some space, or lower PARETOFIT_DISK_RESERVE_BYTES"
                )
            digest.update(chunk)
            file.write(chunk)
    if source.sha256 is not None and digest.hexdigest() != source.sha256:
        raise UnusableError(
            "sha256_mismatch",
            (
                f"the archive has SHA-256 {digest.hexdigest()}, not the expected {source.sha256}: check the source and "
                "the digest"
            ),
        )


@contextmanager
def _open_url(source: UrlSource, outbound: Outbound) -> Iterator[Iterable[bytes]]:
    try:
        with outbound.get(source.url) as response:
            if response.status in _RETRYABLE_STATUSES:
                raise OSError(f"the server of the archive responded with {response.status}")
            if response.status != 200:
                raise UnusableError("url_status", f"the server responded with {response.status}: check the URL")
            yield response.chunks()
    except RefusedError as error:
        raise UnusableError("url_refused", str(error)) from error
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME:
            raise
        host = urlsplit(source.url).hostname
        raise UnusableError("url_unknown_host", f"the host {host} does not exist: check the URL") from error


@contextmanager
def _open_s3(source: S3Source) -> Iterator[Iterable[bytes]]:
    """Endpoint and credentials come from the environment, as for the blob store."""
    try:
        bucket = S3Store(source.bucket, retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT})
        result = obstore.get(bucket, source.key)
        yield (bytes(chunk) for chunk in result.stream(min_chunk_size=CHUNK))
    except FileNotFoundError as error:
        raise UnusableError("s3_missing", f"{source.url} does not exist: check the bucket and the key") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        detail = f"access to {source.url} was denied, or it does not exist: check the key and the bucket's policy"
        raise UnusableError("s3_refused", detail) from error
    except BaseError as error:
        # The message contains the operator's endpoint: it goes to the log only.
        _log.warning("s3_download_failed", url=source.url, error=str(error))
        raise OSError("the bucket is unavailable") from error
