"""Trained weights over HTTP: created, uploaded, listed, downloaded, deleted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import httpx
import pytest
from sqlalchemy import Engine

from paretofit.api.problems import NotSafetensorsError
from paretofit.api.receiving import HEAD, _checked
from paretofit.api.v1.weights import check_safetensors
from paretofit.core.settings import Settings
from paretofit.db.blobs import open_store
from paretofit.models.pretrained.sources import SOURCES
from tests.api.conftest import MAX_UPLOAD_BYTES
from tests.api.keys import KeyedApi
from tests.api.process import Api
from tests.api.test_datasets import notifications
from tests.api.test_problems import pointers, problem
from tests.api.test_quotas import _tenant
from tests.db import rows

SOURCE = "mobilenet_v2"


def safetensors(padding: int = 1000) -> bytes:
    """A file with a valid safetensors header."""
    header = json.dumps({"__metadata__": {"padding": "x" * padding}}).encode()
    return len(header).to_bytes(8, "little") + header


FILE = safetensors()
DIGEST = hashlib.sha256(FILE).hexdigest()


def create(http: httpx.Client, **changes: Any) -> str:
    response = http.post("/v1/weights", json={"name": "mine", "source": {"kind": "upload"}, **changes})
    assert response.status_code == 201, response.text
    identifier: str = response.json()["id"]
    assert identifier.startswith("wts_")
    assert response.headers["Location"] == f"/v1/weights/{identifier}"
    return identifier


def test_new_weights_wait_for_their_content(http: httpx.Client, stored: Engine) -> None:
    described = {"licence": "MIT", "mean": [0.5], "std": [0.25], "class_names": ["cat", "dog"]}
    weights = http.get(f"/v1/weights/{create(http, **described)}").json()
    assert (weights["state"], weights["source"], weights["uploaded_bytes"]) == ("pending", {"kind": "upload"}, 0)
    assert weights["options"] == described | {"allow_non_commercial": False}
    assert (weights["record"], weights["sha256"], weights["size"]) == (None, None, None)
    assert notifications(stored, weights["id"]) == []


def test_named_weights_are_converted_and_accept_no_upload(http: httpx.Client, stored: Engine) -> None:
    weights_id = create(http, source={"kind": "named", "name": SOURCE})
    assert notifications(stored, weights_id) == ["convert"]
    problem(http.put(f"/v1/weights/{weights_id}/content", content=FILE), 409, "not_uploadable")


def test_sources_are_listed_with_their_licenses(http: httpx.Client) -> None:
    listed = {each["name"]: each for each in http.get("/v1/weights/sources").json()["data"]}
    assert set(listed) == set(SOURCES)
    for name, source in SOURCES.items():
        assert (listed[name]["family"], listed[name]["licence"]) == (source.family, source.licence)
        assert listed[name]["enabled"] is True


@pytest.mark.parametrize(
    ("changes", "prefix", "message"),
    [
        ({"source": {"kind": "named", "name": "none"}}, "/source/name", "choose one of"),
        ({"source": {"kind": "file"}}, "/source", ""),
        ({"name": ""}, "/name", ""),
        ({"mean": [0.5]}, "", "mean and std must be given together"),
        ({"mean": [0.5, 0.5], "std": [0.5]}, "", "give the same number of each"),
        ({"mean": [0.5], "std": [0]}, "", "greater than 0"),
        ({"class_names": ["a", "a"]}, "", "a class is repeated"),
        ({"source": {"kind": "named", "name": SOURCE}, "licence": "MIT"}, "", "the named source provides its own"),
        ({"licence": "CC-BY-NC-4.0"}, "/licence", "allow_non_commercial"),
        ({"name": "resnet50_swsl-1c2d3e4f"}, "/name", "allow_non_commercial"),
    ],
)
def test_invalid_weights_are_rejected_at_their_field(
    http: httpx.Client, changes: dict[str, Any], prefix: str, message: str
) -> None:
    response = http.post("/v1/weights", json={"name": "mine", "source": {"kind": "upload"}, **changes})
    document = problem(response, 422, "invalid")
    assert [pointer for pointer in pointers(document) if pointer.startswith(prefix)]
    assert message in json.dumps(document["errors"])


def test_file_is_uploaded_in_one_request(api: Api, stored: Engine) -> None:
    weights_id = create(api.http)
    response = api.http.put(f"/v1/weights/{weights_id}/content", content=FILE)
    assert response.status_code == 200, response.text
    assert response.json()["state"] == "converting"
    assert response.json()["source"] == {"kind": "upload", "sha256": DIGEST, "size": len(FILE)}
    assert b"".join(open_store((api.home / "blobs").as_uri()).stream(DIGEST)) == FILE
    assert notifications(stored, weights_id) == ["convert"]
    assert not (api.home / "uploads" / weights_id).exists()
    problem(api.http.put(f"/v1/weights/{weights_id}/content", content=FILE), 409, "not_uploadable")


def test_file_is_uploaded_in_parts(http: httpx.Client, stored: Engine) -> None:
    weights_id = create(http)

    def send(start: int, end: int) -> httpx.Response:
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(FILE)}"}
        return http.put(f"/v1/weights/{weights_id}/content", content=FILE[start:end], headers=headers)

    assert send(0, 20).json()["state"] == "uploading"
    assert problem(send(19, 30), 409, "upload_offset")["uploaded_bytes"] == 20
    assert notifications(stored, weights_id) == []
    assert send(20, len(FILE)).json()["source"]["sha256"] == DIGEST


def zipped() -> bytes:
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(), "PyTorch file"),
        (pickle.dumps({"weight": [0.0] * 100}), "PyTorch file"),
        (b"", "header is invalid"),
        (b"{}", "header is invalid"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "header is invalid"),
        ((2**40).to_bytes(8, "little") + b"{" + b" " * 100, "header is invalid"),
        ((1).to_bytes(8, "little") + b"{}" + b" " * 100, "header is invalid"),
    ],
)
def test_other_files_are_rejected_and_discarded(api: Api, stored: Engine, content: bytes, message: str) -> None:
    weights_id = create(api.http)
    document = problem(api.http.put(f"/v1/weights/{weights_id}/content", content=content), 415, "not_safetensors")
    assert message in document["detail"]
    assert "`paretofit weights add FILE`" in document["detail"]
    weights = api.http.get(f"/v1/weights/{weights_id}").json()
    assert (weights["state"], weights["uploaded_bytes"]) == ("pending", 0)
    assert notifications(stored, weights_id) == []
    assert api.http.put(f"/v1/weights/{weights_id}/content", content=FILE).json()["state"] == "converting"


def test_pickle_is_rejected_before_it_is_received_completely(http: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        yield b"\x80\x02}q\x00" + b"x" * 2**20
        for _ in range(63):
            yield b"x" * 2**20

    problem(http.put(f"/v1/weights/{create(http)}/content", content=endless()), 415, "not_safetensors")


def test_safetensors_header_is_accepted() -> None:
    check_safetensors(FILE[:16])
    check_safetensors((2).to_bytes(8, "little") + b"{}")
    for head in (b"", FILE[:8], zipped()[:16]):
        with pytest.raises(NotSafetensorsError):
            check_safetensors(head)


@pytest.mark.parametrize("size", [MAX_UPLOAD_BYTES, 2 * 2**20])
def test_oversize_file_is_rejected(http: httpx.Client, size: int) -> None:
    weights_id = create(http)
    large = safetensors(size)
    document = problem(http.put(f"/v1/weights/{weights_id}/content", content=large), 413, "too_large")
    assert document["limit"] == MAX_UPLOAD_BYTES
    assert http.get(f"/v1/weights/{weights_id}").json()["uploaded_bytes"] == 0


def test_weights_for_non_commercial_use_are_accepted_when_confirmed(http: httpx.Client, stored: Engine) -> None:
    weights_id = create(http, licence="CC-BY-NC-4.0", allow_non_commercial=True)
    assert http.get(f"/v1/weights/{weights_id}").json()["options"]["allow_non_commercial"] is True


def test_weights_have_their_own_size_limit(keyed: KeyedApi) -> None:
    # This service accepts uploads of up to 4 GiB.
    key = keyed.issue("read", "write", tenant="large")
    body = {"name": "w", "source": {"kind": "upload"}}
    weights_id = keyed.send("POST", "/v1/weights", key, json=body).json()["id"]
    for size, status in ((2**30 + 1, 413), (2**30, 200)):
        headers = {"Content-Range": f"bytes 0-{len(FILE) - 1}/{size}"}
        response = keyed.send("PUT", f"/v1/weights/{weights_id}/content", key, content=FILE, headers=headers)
        assert response.status_code == status, response.text
        if status == 413:
            document = problem(response, 413, "too_large")
            assert (document["limit"], "limit of 1073741824 bytes" in document["detail"]) == (2**30, True)
    cookie = keyed.sign_in(key)
    for path in ("/weights", f"/weights/{weights_id}"):
        shown = keyed.api.http.get(path, headers=cookie).text
        assert 'data-max-bytes="1073741824"' in shown


@pytest.mark.parametrize("sizes", [[1] * 40, [3, 20], [40], [15, 1, 24], [5], []])
def test_nothing_is_written_before_the_header_is_checked(sizes: list[int]) -> None:
    content = bytes(range(sum(sizes)))
    checked: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        start = 0
        for size in sizes:
            yield content[start : start + size]
            start += size

    async def write() -> bytes:
        written = b""
        async for chunk in _checked(body(), checked.append):
            assert checked == [content[:HEAD]]
            written += chunk
        return written

    assert asyncio.run(write()) == content
    assert checked == [content[:HEAD]]


def test_converted_file_can_be_downloaded(api: Api, stored: Engine) -> None:
    path = api.home / "converted"
    path.write_bytes(FILE)
    blob = open_store((api.home / "blobs").as_uri()).put(path)
    weights_id = rows.add_weights(stored, name="naïve", sha256=blob.sha256, size=blob.size)
    response = api.http.get(f"/v1/weights/{weights_id}/content")
    assert response.content == FILE
    assert response.headers["ETag"] == f'"{DIGEST}"'
    assert "filename*=UTF-8''na%C3%AFve.safetensors" in response.headers["Content-Disposition"]
    part = api.http.get(f"/v1/weights/{weights_id}/content", headers={"Range": "bytes=8-9"})
    assert (part.status_code, part.content) == (206, FILE[8:10])
    head = api.http.head(f"/v1/weights/{weights_id}/content")
    assert head.headers["Content-Length"] == str(len(FILE))
    waiting = rows.add_weights(stored, state="converting")
    problem(api.http.get(f"/v1/weights/{waiting}/content"), 409, "weights_not_ready")


def test_lists_are_filtered_by_state(http: httpx.Client, stored: Engine) -> None:
    rejected = [rows.add_weights(stored, state="rejected") for _ in range(3)]
    seen, cursor = [], ""
    while True:
        page = http.get(f"/v1/weights?state=rejected&limit=2{cursor}").json()
        seen += [weights["id"] for weights in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen[:3] == rejected[::-1]
    problem(http.get("/v1/weights?state=none"), 422, "invalid")


@pytest.mark.parametrize("state", ["pending", "uploading", "converting", "ready", "rejected"])
def test_weights_in_any_state_can_be_deleted(http: httpx.Client, stored: Engine, state: str) -> None:
    weights_id = rows.add_weights(stored, state=state)
    assert http.delete(f"/v1/weights/{weights_id}").status_code == 204
    problem(http.get(f"/v1/weights/{weights_id}"), 404, "not_found")
    problem(http.delete(f"/v1/weights/{weights_id}"), 404, "not_found")


def test_other_tenants_weights_do_not_exist(http: httpx.Client, stored: Engine) -> None:
    weights_id = rows.add_weights(stored, tenant_id="other")
    for response in (
        http.get(f"/v1/weights/{weights_id}"),
        http.get(f"/v1/weights/{weights_id}/content"),
        http.put(f"/v1/weights/{weights_id}/content", content=FILE),
        http.delete(f"/v1/weights/{weights_id}"),
    ):
        problem(response, 404, "not_found")
    assert weights_id not in http.get("/v1/weights?limit=200").text


def test_weights_count_toward_stored_bytes(keyed: KeyedApi) -> None:
    key = _tenant(keyed, "heavy", max_stored_bytes=len(FILE) + 10)
    body = {"name": "w", "source": {"kind": "upload"}}

    def upload() -> httpx.Response:
        weights_id = keyed.send("POST", "/v1/weights", key, json=body).json()["id"]
        return keyed.send("PUT", f"/v1/weights/{weights_id}/content", key, content=FILE)

    assert upload().status_code == 200
    refused = problem(upload(), 429, "quota_exceeded")
    assert refused["quota"] == "max_stored_bytes"
    assert keyed.send("GET", "/v1/usage", key).json()["stored_bytes"] == len(FILE)
    rows.add_weights(keyed.engine, tenant_id="heavy", size=100)
    problem(keyed.send("POST", "/v1/weights", key, json=body), 429, "quota_exceeded")


def test_requests_are_written_to_the_audit_log(keyed: KeyedApi) -> None:
    key = keyed.issue("read", "write", "manage", tenant="audited-weights")
    weights_id = keyed.send("POST", "/v1/weights", key, json={"name": "w", "source": {"kind": "upload"}}).json()["id"]
    assert keyed.send("DELETE", f"/v1/weights/{weights_id}", key).status_code == 204
    entries = keyed.send("GET", "/v1/audit", key).json()["data"]
    assert [(entry["method"], entry["path"]) for entry in entries[:2]] == [
        ("DELETE", f"/v1/weights/{weights_id}"),
        ("POST", "/v1/weights"),
    ]


@pytest.mark.parametrize(
    ("value", "fetched"),
    [("all", {"a", "b"}), ("a", {"a"}), ("a, b", {"a", "b"}), ("none", set()), ("", set()), (None, {"a", "b"})],
)
def test_operator_chooses_the_sources(monkeypatch: pytest.MonkeyPatch, value: str | None, fetched: set[str]) -> None:
    if value is not None:
        monkeypatch.setenv("PARETOFIT_WEIGHTS_SOURCES", value)
    settings = Settings()
    assert {name for name in ("a", "b") if settings.fetches_weights(name)} == fetched


def test_disabled_sources_are_rejected(keyed: KeyedApi) -> None:
    # This service enables only one source.
    key = keyed.issue("read", "write", tenant="choosing")
    enabled = [each["name"] for each in keyed.send("GET", "/v1/weights/sources", key).json()["data"] if each["enabled"]]
    assert enabled == [SOURCE]
    body = {"name": "w", "source": {"kind": "named", "name": "mobilenet_v1"}}
    document = problem(keyed.send("POST", "/v1/weights", key, json=body), 422, "invalid")
    assert pointers(document) == ["/source/name"]
    assert "PARETOFIT_WEIGHTS_SOURCES" in document["detail"]
