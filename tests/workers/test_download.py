"""Datasets whose source is a URL or in S3."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest

from paretofit.core.http import Outbound
from paretofit.core.settings import Settings
from paretofit.db import datasets, tenants
from paretofit.db.engine import transaction
from paretofit.db.tenants import Quota
from paretofit.search.contracts.dataset import UrlSource
from paretofit.workers.download import UnusableError, fetch
from tests.workers.fleet import Fleet
from tests.workers.test_ingestion_jobs import archive, wait_for_validation


@contextmanager
def serving(files: dict[str, bytes], *, signed_by: str = "") -> Iterator[str]:
    """Serve these paths; with `signed_by`, only to requests with an S3 signature of this key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            signature = self.headers.get("Authorization", "")
            if signed_by and not signature.startswith(f"AWS4-HMAC-SHA256 Credential={signed_by}/"):
                content = None
            self.send_response(404 if content is None else 200)
            self.send_header("ETag", '"an archive"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def add(fleet: Fleet, url: str, tenant: str = "default", **source: Any) -> str:
    with transaction(fleet.engine) as session:
        document = {"kind": "s3" if url.startswith("s3://") else "url", "url": url, **source}
        return datasets.insert(session, tenant, name="fetched", source=document, options={}).id


def test_dataset_from_a_url_is_ready_or_rejected_with_a_reason(empty_fleet: Fleet, tmp_path: Path) -> None:
    empty_fleet.environment |= {"PARETOFIT_OUTBOUND_NETWORKS": "127.0.0.0/8", "PARETOFIT_MAX_UPLOAD_BYTES": "200000"}
    empty_fleet.start("paretofit.workers.relay")
    empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    content = archive(tmp_path / "images.zip").read_bytes()
    with serving({"/images.zip": content, "/large.zip": bytes(300_000)}) as url:
        right = hashlib.sha256(content).hexdigest()
        good = add(empty_fleet, f"{url}/images.zip", sha256=right)
        with transaction(empty_fleet.engine) as session:
            tenants.set_quota(session, "small", Quota(None, None, 1000))
        refused = {
            add(empty_fleet, f"{url}/images.zip", "small"): "quota_exceeded",
            add(empty_fleet, f"{url}/images.zip", sha256="0" * 64): "sha256_mismatch",
            add(empty_fleet, f"{url}/nothing.zip"): "url_status",
            add(empty_fleet, f"{url}/large.zip"): "archive_too_large",
            add(empty_fleet, "https://10.0.0.1/images.zip"): "url_refused",
            add(empty_fleet, "https://169.254.169.254/latest/"): "url_refused",
            add(empty_fleet, "http://10.0.0.1/images.zip"): "url_refused",
        }
        row = wait_for_validation(empty_fleet, good)
        assert (row.state, row.error) == ("ready", None)
        assert row.profile is not None
        assert sum(row.profile["images"].values()) == 24
        for dataset_id, code in refused.items():
            row = wait_for_validation(empty_fleet, dataset_id)
            assert (row.state, (row.error or {})["code"]) == ("rejected", code)


@pytest.mark.parametrize(
    ("number", "raised", "message"),
    [
        (socket.EAI_NONAME, UnusableError, "the host images.example does not exist: check the URL"),
        # The name server may respond to the next attempt.
        (socket.EAI_AGAIN, socket.gaierror, "not now"),
    ],
)
def test_unresolved_host_is_permanent_or_retried(
    tmp_path: Path, number: int, raised: type[Exception], message: str
) -> None:
    def resolve(host: str, port: int) -> NoReturn:
        raise socket.gaierror(number, "not now")

    source = UrlSource(url="https://images.example/a.zip")
    with pytest.raises(raised, match=message):
        fetch(source, tmp_path / "archive", Settings(), Outbound(resolve=resolve), lambda: None)


def test_dataset_from_s3_is_ready_or_rejected_with_a_reason(empty_fleet: Fleet, tmp_path: Path) -> None:
    content = archive(tmp_path / "images.zip").read_bytes()
    files = {
        "/imports/acme/images%20of%20%2523.zip": content,
        "/imports/large.zip": bytes(300_000),
    }
    with serving(files, signed_by="AKIDTEST") as endpoint:
        empty_fleet.environment |= {
            "PARETOFIT_MAX_UPLOAD_BYTES": "200000",
            "AWS_ACCESS_KEY_ID": "AKIDTEST",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-operator",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
        }
        empty_fleet.start("paretofit.workers.relay")
        empty_fleet.start("paretofit.workers", "light", "--processes", "1")
        right = hashlib.sha256(content).hexdigest()
        good = add(empty_fleet, "s3://imports/acme/images of %23.zip", sha256=right)
        refused = {
            add(empty_fleet, "s3://imports/acme/images of %23.zip", sha256="0" * 64): "sha256_mismatch",
            add(empty_fleet, "s3://imports/acme/nothing.zip"): "s3_missing",
            add(empty_fleet, "s3://imports/large.zip"): "archive_too_large",
        }
        row = wait_for_validation(empty_fleet, good)
        assert (row.state, row.error) == ("ready", None)
        for dataset_id, code in refused.items():
            row = wait_for_validation(empty_fleet, dataset_id)
            assert (row.state, (row.error or {})["code"]) == ("rejected", code)
