from __future__ import annotations

import asyncio
import hashlib
import io
import random
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from paretofit import ApiError, AsyncClient, Client, DigestMismatchError, UnreachableError
from paretofit.client.errors import DatasetRejectedError
from tests.launch.service import Service
from tests.paretofit.proxy import Proxy
from tests.paretofit.stored import Stored, store

SPEC = {"method": {"kind": "mutualnet", "epochs": 1}}


def test_importing_the_package_loads_neither_torch_nor_a_server() -> None:
    lazy = "import sys, paretofit; assert not {'httpx', 'torch', 'pydantic'} & set(sys.modules)"
    used = "; from paretofit import Client; assert not {'torch', 'fastapi', 'sqlalchemy', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", lazy + used], check=True)


def test_unreachable_service_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", retry_timeout=0.3) as client:
        with pytest.raises(UnreachableError, match="paretofit up"):
            client.ready()
        with pytest.raises(UnreachableError):
            list(client.searches.events("srch_0"))


def test_service_is_ready_and_has_methods(client: Client) -> None:
    assert client.ready().status == "ready"
    methods = {method.kind: method for method in client.methods()}
    assert "mutualnet" in methods
    assert "epochs" in client.method_schema("mutualnet")["properties"]


def test_api_errors_have_the_problem_document(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.searches.get("srch_" + 32 * "0")
    assert (refused.value.status, refused.value.code) == (404, "not_found")
    assert refused.value.request_id


def test_invalid_fields_are_named(client: Client, stored: Stored) -> None:
    spec = {"name": "x", "dataset_id": stored.dataset_id, "method": {"kind": "mutualnet", "epochs": "many"}}
    with pytest.raises(ApiError) as refused:
        client.searches.create(spec)
    assert refused.value.status == 422
    assert [error.pointer for error in refused.value.errors] == ["/method/epochs"]
    assert "/method/epochs" in str(refused.value)


def test_retried_submission_creates_one_search(
    client: Client, proxied: Client, proxy: Proxy, stored: Stored, name: str
) -> None:
    proxied.ready()
    proxy.break_responses_after(0)
    search = proxied.searches.create({"name": "lost " + name, "dataset_id": stored.dataset_id, **SPEC})
    assert proxy.broken == 1
    assert [each.id for each in client.searches.list() if each.name == "lost " + name] == [search.id]
    client.searches.cancel(search.id)


def test_one_idempotency_key_creates_one_search(client: Client, stored: Stored, name: str) -> None:
    spec = {"name": name, "dataset_id": stored.dataset_id, **SPEC}
    search = client.searches.create(spec, idempotency_key=name)
    assert client.searches.create(spec, idempotency_key=name).id == search.id
    with pytest.raises(ApiError) as refused:
        client.searches.create(spec | {"seed": 1}, idempotency_key=name)
    assert refused.value.code == "idempotency_mismatch"
    client.searches.cancel(search.id)


def test_retried_deletion_succeeds(proxied: Client, proxy: Proxy, stored: Stored) -> None:
    proxied.ready()
    proxy.break_responses_after(0)
    proxied.searches.delete(stored.search_id)
    assert proxy.broken == 1
    with pytest.raises(ApiError):
        proxied.searches.get(stored.search_id)


def test_lists_span_pages(client: Client, name: str) -> None:
    created = [client.datasets.create({"name": name, "source": {"kind": "upload"}}).id for _ in range(101)]
    assert [dataset.id for dataset in client.datasets.list() if dataset.name == name] == created[::-1]


def test_interrupted_download_is_resumed(proxied: Client, proxy: Proxy, large: Stored, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    proxy.break_responses_after(1_000_000)
    path = proxied.artifacts.download(
        large.artifact_id, tmp_path / "file", lambda done, total: progress.append((done, total))
    )
    assert path.read_bytes() == large.content
    assert proxy.broken == 1
    assert proxy.response_bytes < len(large.content) + 10_000, "bytes were sent again"
    assert progress[-1] == (len(large.content), len(large.content))
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_download_is_resumed_in_another_process(proxy: Proxy, client: Client, large: Stored, tmp_path: Path) -> None:
    with Client(proxy.url, retry_timeout=0) as without_retries:
        without_retries.artifacts.get(large.artifact_id)
        proxy.break_responses_after(2_000_000)
        with pytest.raises(UnreachableError):
            without_retries.artifacts.download(large.artifact_id, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    client.artifacts.download(large.artifact_id, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == large.content


def test_corrupt_download_is_deleted(client: Client, large: Stored, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(large.content).hexdigest()
    partial = tmp_path / f".file.{sha256[:16]}.part"
    partial.write_bytes(b"other bytes")
    with pytest.raises(DigestMismatchError, match=sha256):
        client.artifacts.download(large.artifact_id, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    assert client.artifacts.download(large.artifact_id, tmp_path / "file").read_bytes() == large.content


def test_interrupted_event_stream_is_resumed(proxied: Client, proxy: Proxy, stored: Stored) -> None:
    proxied.ready()
    proxy.break_responses_after(450)
    events = list(proxied.searches.events(stored.search_id))
    assert [(event.seq, event.type) for event in events] == [(1, "search.created"), (2, "search.succeeded")]
    assert proxy.broken == 1
    assert [event.seq for event in proxied.searches.events(stored.search_id, after=1)] == [2]
    assert list(proxied.searches.events(stored.search_id, after=2)) == []


def test_wait_times_out(client: Client, service: Service, name: str) -> None:
    waiting = store(service, name=name, state="paused")  # the service would plan a queued one
    with pytest.raises(TimeoutError, match="still paused"):
        client.searches.wait(waiting.search_id, timeout=0.1, poll=0.05)


def test_front_includes_dominated_points_on_request(client: Client, stored: Stored) -> None:
    front = client.searches.front(stored.search_id, dominated=True)
    assert [point.id for point in front.points] == list(stored.point_ids[:3])
    assert {point.id for point in front.dominated or ()} == set(stored.point_ids[3:])
    assert front.hypervolume is not None
    assert 0 < front.hypervolume < 1


def test_joint_front_of_a_dataset_names_the_searches(client: Client, stored: Stored, name: str) -> None:
    front = client.datasets.front(stored.dataset_id, dominated=True)
    assert [point.id for point in front.points] == list(stored.point_ids[:3])
    assert {(point.search_id, point.search_name, point.method) for point in front.points} == {
        (stored.search_id, name, "mutualnet")
    }
    assert {point.id for point in front.dominated or ()} == set(stored.point_ids[3:])
    assert client.datasets.get(stored.dataset_id).front(dominated=True) == front
    rows = front.records()
    assert [row["on_front"] for row in rows] == [True, True, True, False, False]
    assert {row["search_name"] for row in rows} == {name}
    assert "search_name" not in client.searches.front(stored.search_id).records()[0]
    with pytest.raises(ApiError) as refused:
        client.datasets.front(stored.dataset_id, x="latency_ms")
    assert [error.pointer for error in refused.value.errors] == ["?device"]


def test_point_of_a_joint_front_is_downloaded(client: Client, stored: Stored, tmp_path: Path) -> None:
    best = client.datasets.front(stored.dataset_id, x="params").points[-1]
    assert best.download(tmp_path, progress=False).read_bytes() == stored.content


async def _read_joint_front(url: str, dataset_id: str) -> list[str]:
    async with AsyncClient(url) as client:
        dataset = await client.datasets.get(dataset_id)
        front = await dataset.front(x="params")
        assert await client.datasets.front(dataset_id, x="params") == front
        return [point.id for point in front.points]


def test_joint_front_is_read_asynchronously(service: Service, stored: Stored) -> None:
    assert asyncio.run(_read_joint_front(service.url, stored.dataset_id)) == list(stored.point_ids[:3])


def test_interrupted_upload_is_resumed(
    proxied: Client, client: Client, proxy: Proxy, name: str, tmp_path: Path
) -> None:
    archive = tmp_path / "noise.zip"
    archive.write_bytes(random.Random(0).randbytes(6_000_000))
    dataset = proxied.datasets.create({"name": name, "source": {"kind": "upload"}})
    proxy.break_requests_after(3_000_000)
    proxied.datasets.upload(dataset.id, archive)
    assert proxy.broken == 1
    assert client.datasets.get(dataset.id).source["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(DatasetRejectedError):
        client.datasets.wait(dataset.id, timeout=30, poll=0.1)


def test_complete_upload_is_not_repeated_after_a_lost_response(
    proxied: Client, proxy: Proxy, name: str, tmp_path: Path
) -> None:
    archive = tmp_path / "empty.zip"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w"):
        pass
    archive.write_bytes(content.getvalue())
    dataset = proxied.datasets.create({"name": name, "source": {"kind": "upload"}})
    proxied.datasets.get(dataset.id)
    size = proxy.response_bytes
    proxied.datasets.get(dataset.id)
    proxy.break_responses_after(proxy.response_bytes - size)
    sent = proxied.datasets.upload(dataset.id, archive)
    assert proxy.broken == 1
    assert sent.source["size"] == len(content.getvalue())
