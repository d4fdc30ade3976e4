"""Methods of the searches, fronts and points that the sync and async clients return."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from paretofit import ApiError, AsyncClient, Client, UnreachableError
from paretofit.api.schemas.searches import SearchDetail as SearchDocument
from paretofit.client.errors import NoSuchError
from paretofit.client.search import SearchDetail
from tests.launch.service import Service
from tests.paretofit.proxy import Proxy
from tests.paretofit.stored import FRONT, Stored

SPEC = {"method": {"kind": "mutualnet", "epochs": 1}}


@pytest.mark.integration
def test_select_and_download_a_point_within_a_budget(client: Client, stored: Stored, tmp_path: Path) -> None:
    search = client.searches.get(stored.search_id)
    assert search.wait(progress=False).state == "succeeded"
    assert search.summary.points == 3
    front = search.front()
    point = front.select(max_macs=FRONT[1][2])
    assert point.id == stored.point_ids[1]
    path = point.download(tmp_path / "chosen.safetensors")
    assert path.read_bytes() == stored.content
    assert point.download(tmp_path).name == "w0.5-r24.safetensors"
    with pytest.raises(ApiError) as refused:
        front.select(max_macs=1)
    assert refused.value.code == "no_point_fits"
    with pytest.raises(ValueError, match="give both"):
        front.select(device="onnxruntime-cpu-1t")


def test_async_client_selects_and_downloads(service: Service, stored: Stored, tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncClient(service.url) as client:
            [listed] = [search async for search in client.searches.list() if search.id == stored.search_id]
            search = await listed.wait(timeout=30, progress=False)
            assert [event.seq async for event in search.events()] == [1, 2]
            assert [trial.number async for trial in search.trials()] == [0]
            front = await search.front(dominated=True)
            assert len(front.points) + len(front.dominated or ()) == len(stored.point_ids)
            point = await front.select(max_macs=FRONT[1][2])
            path = await point.download(tmp_path / "chosen.safetensors")
            assert path.read_bytes() == stored.content
            assert (await client.points.get(point.id)).record["key"] == point.key
            with pytest.raises(ApiError):
                await client.searches.get("srch_" + 32 * "0")

    asyncio.run(use())


def test_async_transfers_are_resumed(proxy: Proxy, large: Stored, name: str, tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncClient(proxy.url) as client:
            await client.ready()
            proxy.break_responses_after(1_000_000)
            path = await client.artifacts.download(large.artifact_id, tmp_path / "file")
            assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(large.content).digest()
            dataset = await client.datasets.create({"name": name, "source": {"kind": "upload"}})
            proxy.break_requests_after(1_000_000)
            sent = await client.datasets.upload(dataset.id, path)
            assert sent.source["sha256"] == hashlib.sha256(large.content).hexdigest()
            proxy.break_responses_after(0)
            fields = {"name": "lost " + name, "dataset_id": large.dataset_id, **SPEC}
            search = await client.searches.create(fields)
            assert [each.id async for each in client.searches.list() if each.name == "lost " + name] == [search.id]
            await search.cancel()
        async with AsyncClient(proxy.url, retry_timeout=0) as client:
            await client.ready()
            proxy.break_responses_after(0)
            with pytest.raises(UnreachableError):
                await client.methods()

    asyncio.run(use())
    assert proxy.broken == 4


def test_sync_client_works_inside_an_event_loop(client: Client, stored: Stored) -> None:
    async def use() -> SearchDetail:
        return next(client.searches.list()).refresh()

    assert asyncio.run(use()).id


def test_search_is_submitted_by_keyword_arguments(client: Client, stored: Stored, name: str) -> None:
    method = {"kind": "mutualnet", "epochs": 1}
    search = client.searches.create(name=name, dataset_id=stored.dataset_id, method=method, seed=4)
    assert (search.name, search.spec["seed"]) == (name, 4)
    assert search.pause().pause_requested
    clone = search.clone({"seed": 5})
    assert clone.provenance["cloned_from"] == search.id
    for each in (search, clone):
        each.cancel()
        assert each.wait(timeout=30, poll=0.1).state == "cancelled"
        each.delete()


def test_search_serializes_like_the_api_document(client: Client, stored: Stored) -> None:
    document = client.searches.get(stored.search_id).model_dump(mode="json")
    assert SearchDocument.model_validate(document).front.points == document["front"]["points"] == 3


def test_front_is_converted_to_a_data_frame(client: Client, stored: Stored) -> None:
    frame = client.searches.front(stored.search_id, dominated=True).to_pandas()
    assert list(frame.index[:3]) == list(stored.point_ids[:3])
    assert list(frame.loc[frame["on_front"], "macs"]) == [point[2] for point in FRONT]
    assert {"selection_top1", "config.width", "config.resolution", "sha256"} <= set(frame.columns)
    assert len(frame) == len(stored.point_ids)


def test_to_pandas_without_pandas_says_what_to_install(service: Service, stored: Stored) -> None:
    code = f"""
import sys; sys.modules["pandas"] = None
from paretofit import Client
print(len(Client({service.url!r}).searches.front({stored.search_id!r}).records()))
Client({service.url!r}).searches.front({stored.search_id!r}).to_pandas()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "3\n")
    assert "pip install 'paretofit[pandas]'" in done.stderr


def test_wait_shows_a_progress_bar_on_a_terminal(
    client: Client, stored: Stored, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = client.searches.get(stored.search_id)
    search.wait()
    assert capsys.readouterr() == ("", ""), "no bar without a terminal"
    # Make rich assume a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    search.wait(progress=True)
    assert f"{search.name}: succeeded" in capsys.readouterr().err


def test_download_of_a_point_without_weights_fails(client: Client, stored: Stored) -> None:
    point = client.searches.front(stored.search_id).points[0]
    with pytest.raises(NoSuchError, match="no checkpoint"):
        point.model_copy(update={"artifact": None}).download()


def test_api_objects_cannot_be_created_directly(client: Client, stored: Stored) -> None:
    document = client.searches.get(stored.search_id).model_dump(mode="json")
    with pytest.raises(TypeError, match="get it from a client"):
        SearchDetail.model_validate(document)
