"""Datasets over HTTP: created, uploaded in one or several requests, listed, deleted."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select

from paretofit.core.settings import Settings
from paretofit.db.blobs import open_store
from paretofit.db.engine import transaction
from paretofit.db.ids import new_id
from paretofit.db.tables import DatasetRow, OutboxRow
from tests.api import rows
from tests.api.conftest import MAX_UPLOAD_BYTES
from tests.api.keys import KeyedApi
from tests.api.process import Api
from tests.api.test_problems import pointers, problem

ARCHIVE = bytes(range(256)) * 800
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()


def create(http: httpx.Client, **changes: Any) -> str:
    response = http.post("/v1/datasets", json={"name": "clothes", "source": {"kind": "upload"}, **changes})
    assert response.status_code == 201, response.text
    identifier: str = response.json()["id"]
    assert response.headers["Location"] == f"/v1/datasets/{identifier}"
    return identifier


def notifications(engine: Engine, subject: str) -> list[str]:
    with transaction(engine) as session:
        return list(session.scalars(select(OutboxRow.task).where(OutboxRow.subject == subject)))


def send(http: httpx.Client, dataset_id: str, start: int, end: int, total: int | str = len(ARCHIVE)) -> httpx.Response:
    headers = {"Content-Range": f"bytes {start}-{end - 1}/{total}"}
    return http.put(f"/v1/datasets/{dataset_id}/content", content=ARCHIVE[start:end], headers=headers)


def wait_for(http: httpx.Client, dataset_id: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while not condition(dataset := http.get(f"/v1/datasets/{dataset_id}").json()):
        assert time.monotonic() < deadline, dataset
        time.sleep(0.02)
    return dict(dataset)


def test_list_omits_reports(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored, report={"corrupt": []})
    assert http.get(f"/v1/datasets/{dataset}").json()["report"] == {"corrupt": []}
    listed = {each["id"]: each for each in http.get("/v1/datasets?limit=200").json()["data"]}
    assert listed[dataset]["report"] is None
    assert listed[dataset]["profile"] == rows.PROFILE


def test_new_dataset_waits_for_its_content(http: httpx.Client, stored: Engine) -> None:
    splits = {"selection": 0.2}
    dataset = http.get(f"/v1/datasets/{create(http, image_size=24, splits=splits, seed=7)}").json()
    assert dataset["state"] == "pending"
    assert dataset["source"] == {"kind": "upload"}
    assert dataset["options"] == {
        "format": "image_folder",
        "image_size": 24,
        "splits": {"selection": 0.2, "report": 0.1},
        "seed": 7,
        "licence": None,
    }
    assert dataset["uploaded_bytes"] == 0
    assert dataset["report"] is None
    assert notifications(stored, dataset["id"]) == []


def test_builtin_dataset_is_validated_and_accepts_no_upload(http: httpx.Client, stored: Engine) -> None:
    dataset_id = create(http, source={"kind": "builtin", "name": "fashion_mnist", "subset": 1000})
    assert notifications(stored, dataset_id) == ["ingest"]
    problem(http.put(f"/v1/datasets/{dataset_id}/content", content=b"x"), 409, "not_uploadable")


def create_from_bucket(keyed: KeyedApi, key: str, url: str) -> httpx.Response:
    return keyed.send("POST", "/v1/datasets", key, json={"name": "d", "source": {"kind": "s3", "url": url}})


def test_tenant_reads_allowed_s3_locations(keyed: KeyedApi) -> None:
    acme = keyed.issue("write", tenant="acme")
    for url in ("s3://imports/acme/images.zip", "s3://imports/acme/2026/a b%.zip", "s3://shared/open/images.zip"):
        response = create_from_bucket(keyed, acme, url)
        assert response.status_code == 201, response.text
        assert response.json()["state"] == "pending"
        assert notifications(keyed.engine, response.json()["id"]) == ["ingest"]


@pytest.mark.parametrize(
    "url",
    [
        "s3://imports/other/images.zip",
        "s3://imports/acme2/images.zip",
        "s3://imports/acme",
        "s3://imports/acme/",
        "s3://imports/acme/../other/images.zip",
        "s3://imports/acme/./images.zip",
        "s3://imports/acme//images.zip",
        "s3://imports/{tenant}/images.zip",
        "s3://imports.evil.example/acme/images.zip",
        "s3://imports@evil/acme/images.zip",
        "s3://shared/images.zip",
        "S3://imports/acme/images.zip",
        "s3://imports/acme/a\nb",
        "https://imports/acme/images.zip",
    ],
)
def test_other_s3_locations_are_rejected(keyed: KeyedApi, url: str) -> None:
    acme = keyed.issue("write", tenant="acme")
    document = problem(create_from_bucket(keyed, acme, url), 422, "invalid")
    assert [pointer.rpartition("/")[2] for pointer in pointers(document)] == ["url"]
    assert "^s3:" not in document["detail"]


def test_invalid_s3_urls_are_rejected_with_the_format(http: httpx.Client) -> None:
    source = {"kind": "s3", "url": "s3://clothes.zip", "sha256": "A" * 64}
    document = problem(http.post("/v1/datasets", json={"name": "d", "source": source}), 422, "invalid")
    details = {each["pointer"]: each["detail"] for each in document["errors"]}
    assert "write s3://BUCKET/KEY" in details["/source/url"]
    assert "64 hexadecimal digits" in details["/source/sha256"]


def test_s3_is_rejected_without_allowed_locations(http: httpx.Client) -> None:
    body = {"name": "d", "source": {"kind": "s3", "url": "s3://imports/default/images.zip"}}
    document = problem(http.post("/v1/datasets", json=body), 422, "invalid")
    assert pointers(document) == ["/source/url"]
    assert "PARETOFIT_S3_SOURCES" in document["detail"]


@pytest.mark.parametrize(
    "location", ["s3://bucket", "s3://bucket/blobs", "s3://bucket/blobs/acme", "s3://bucket/{tenant}"]
)
def test_s3_sources_must_not_overlap_the_blob_store(location: str) -> None:
    with pytest.raises(ValueError, match="overlap"):
        Settings(blob_url="s3://bucket/blobs", s3_sources=(location,))
    Settings(blob_url="file:///blobs", s3_sources=(location,))
    Settings(blob_url="s3://bucket/blobs", s3_sources=("s3://bucket/blobs2/", "s3://other/{tenant}"))
    with pytest.raises(ValueError, match="invalid S3 location"):
        Settings(s3_sources=("s3://",))


def test_archive_is_uploaded_in_one_request(api: Api, stored: Engine) -> None:
    dataset_id = create(api.http)
    response = api.http.put(f"/v1/datasets/{dataset_id}/content", content=ARCHIVE)
    assert response.status_code == 200, response.text
    assert response.json()["state"] == "validating"
    assert response.json()["source"] == {"kind": "upload", "sha256": DIGEST, "size": len(ARCHIVE)}
    assert response.json()["uploaded_bytes"] == len(ARCHIVE)
    assert b"".join(open_store((api.home / "blobs").as_uri()).stream(DIGEST)) == ARCHIVE
    assert notifications(stored, dataset_id) == ["ingest"]
    assert not (api.home / "uploads" / dataset_id).exists()
    problem(api.http.put(f"/v1/datasets/{dataset_id}/content", content=ARCHIVE), 409, "not_uploadable")


def test_archive_of_unknown_length_is_uploaded(http: httpx.Client) -> None:
    blocks = (ARCHIVE[start : start + 1000] for start in range(0, len(ARCHIVE), 1000))
    response = http.put(f"/v1/datasets/{create(http)}/content", content=blocks)
    assert response.json()["source"]["sha256"] == DIGEST


def test_empty_archive_is_accepted_for_validation(http: httpx.Client) -> None:
    response = http.put(f"/v1/datasets/{create(http)}/content", content=b"")
    assert (response.status_code, response.json()["state"]) == (200, "validating")


def test_archive_is_uploaded_in_parts(http: httpx.Client, stored: Engine) -> None:
    dataset_id = create(http)
    first = send(http, dataset_id, 0, 70_000)
    assert (first.status_code, first.json()["state"], first.json()["uploaded_bytes"]) == (200, "uploading", 70_000)
    for start in (69_999, 70_001):
        document = problem(send(http, dataset_id, start, 80_000), 409, "upload_offset")
        assert document["uploaded_bytes"] == 70_000
    assert send(http, dataset_id, 70_000, 100_000, "*").json()["uploaded_bytes"] == 100_000
    assert notifications(stored, dataset_id) == []
    last = send(http, dataset_id, 100_000, len(ARCHIVE))
    assert last.json()["state"] == "validating"
    assert last.json()["source"]["sha256"] == DIGEST


def test_restarted_upload_replaces_the_received_bytes(http: httpx.Client) -> None:
    dataset_id = create(http)
    send(http, dataset_id, 0, 5)
    response = http.put(f"/v1/datasets/{dataset_id}/content", content=ARCHIVE)
    assert response.json()["source"]["sha256"] == DIGEST


def test_interrupted_upload_is_resumed(http: httpx.Client) -> None:
    dataset_id = create(http)
    with socket.create_connection(("127.0.0.1", http.base_url.port or 0)) as connection:
        head = f"PUT /v1/datasets/{dataset_id}/content HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Content-Length: {len(ARCHIVE)}\r\n\r\n"
        connection.sendall(head.encode() + ARCHIVE[:50_000])
        wait_for(http, dataset_id, lambda dataset: dataset["state"] == "uploading")
        # Give the server some time: bytes that it has not read when the connection breaks are lost.
        time.sleep(0.5)
    received = wait_for(http, dataset_id, lambda dataset: dataset["uploaded_bytes"] > 0)["uploaded_bytes"]
    assert received <= 50_000
    assert send(http, dataset_id, received, len(ARCHIVE)).json()["source"]["sha256"] == DIGEST


def test_upload_with_all_bytes_can_be_completed(http: httpx.Client) -> None:
    dataset_id = create(http)
    send(http, dataset_id, 0, len(ARCHIVE), "*")
    assert send(http, dataset_id, len(ARCHIVE), len(ARCHIVE)).json()["source"]["sha256"] == DIGEST


@pytest.mark.parametrize("announced", [True, False])
def test_oversize_upload_is_rejected_and_discarded(api: Api, announced: bool) -> None:
    dataset_id = create(api.http)
    large = b"x" * (MAX_UPLOAD_BYTES + 1)
    content = large if announced else iter([large[: len(large) // 2], large[len(large) // 2 :]])
    document = problem(api.http.put(f"/v1/datasets/{dataset_id}/content", content=content), 413, "too_large")
    assert document["limit"] == MAX_UPLOAD_BYTES
    dataset = api.http.get(f"/v1/datasets/{dataset_id}").json()
    assert (dataset["state"], dataset["uploaded_bytes"]) == ("pending", 0)
    response = api.http.put(f"/v1/datasets/{dataset_id}/content", content=ARCHIVE)
    assert response.json()["state"] == "validating"


def test_client_that_sends_too_much_receives_the_response(http: httpx.Client) -> None:
    content = (b"x" * 2**20 for _ in range(64))
    problem(http.put(f"/v1/datasets/{create(http)}/content", content=content), 413, "too_large")
    headers = {"Content-Length": str(64 * 2**20)}
    content = (b"x" * 2**20 for _ in range(64))
    response = http.put(f"/v1/datasets/{create(http)}/content", content=content, headers=headers)
    problem(response, 413, "too_large")


@pytest.mark.parametrize(
    "content_range", ["bytes 0-9", "bytes 5-3/10", "bytes 0-99/50", "items 0-1/2", "bytes 0-98/200"]
)
def test_invalid_content_range_is_rejected(http: httpx.Client, content_range: str) -> None:
    headers = {"Content-Range": content_range}
    response = http.put(f"/v1/datasets/{create(http)}/content", content=b"x" * 100, headers=headers)
    problem(response, 400, "bad_request")


def test_concurrent_uploads_do_not_mix(http: httpx.Client) -> None:
    dataset_id = create(http)
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: http.put(f"/v1/datasets/{dataset_id}/content", content=ARCHIVE), range(4)))
    assert {response.status_code for response in responses} <= {200, 409}
    assert http.get(f"/v1/datasets/{dataset_id}").json()["source"]["sha256"] == DIGEST


def test_pagination_is_stable_while_datasets_are_added(http: httpx.Client, stored: Engine) -> None:
    created = [rows.ready_dataset(stored, state="rejected", manifest=None) for _ in range(7)]
    seen, cursor = [], ""
    while True:
        page = http.get(f"/v1/datasets?state=rejected&limit=3{cursor}").json()
        seen += [dataset["id"] for dataset in page["data"]]
        assert len(page["data"]) <= 3
        created.append(rows.ready_dataset(stored, state="rejected", manifest=None))
        if not page["has_more"]:
            assert page["next_cursor"] is None
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen[:7] == created[6::-1]
    assert len(set(seen)) == len(seen)


def test_only_unused_datasets_can_be_deleted(http: httpx.Client, stored: Engine) -> None:
    dataset_id = rows.ready_dataset(stored)
    search_id = rows.search(stored, dataset_id)
    problem(http.delete(f"/v1/datasets/{dataset_id}"), 409, "dataset_in_use")
    rows.set_search(stored, search_id, state="cancelled")
    assert http.delete(f"/v1/searches/{search_id}").status_code == 204
    assert http.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    problem(http.get(f"/v1/datasets/{dataset_id}"), 404, "not_found")


def test_datasets_of_other_tenants_are_not_found(http: httpx.Client, stored: Engine) -> None:
    with transaction(stored) as session:
        row = DatasetRow(id=new_id("ds"), tenant_id="other", name="theirs", source={"kind": "upload"})
        session.add(row)
    problem(http.get(f"/v1/datasets/{row.id}"), 404, "not_found")
    problem(http.put(f"/v1/datasets/{row.id}/content", content=b""), 404, "not_found")
    problem(http.delete(f"/v1/datasets/{row.id}"), 404, "not_found")
    assert row.id not in http.get("/v1/datasets?limit=200").text
