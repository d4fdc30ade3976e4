"""The events of a search, as pages and as a stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from redis import Redis
from sqlalchemy import Engine

from paretofit.api.schemas.events import Event
from paretofit.db import events
from paretofit.db.engine import transaction
from paretofit.db.transitions import move_search
from tests.api import rows
from tests.api.conftest import MAX_EVENT_STREAMS
from tests.api.keys import KeyedApi
from tests.api.process import Api
from tests.api.test_problems import pointers, problem
from tests.servers import Servers


@pytest.fixture
def search_id(stored: Engine) -> str:
    return rows.search(stored, rows.ready_dataset(stored))


def append_events(engine: Engine, search_id: str, number: int) -> None:
    with transaction(engine) as session:
        for index in range(number):
            events.append(session, search_id, "front.updated", {"index": index, "text": "a\nb\r\n: c"})


def end(engine: Engine, search_id: str) -> None:
    with transaction(engine) as session:
        assert move_search(session, search_id, "cancelled")


@contextmanager
def stream(http: httpx.Client, search_id: str, **headers: str) -> Iterator[Iterator[Event]]:
    """A stream of events; the id and name of each are checked against its data."""

    def parse(lines: Iterator[str]) -> Iterator[Event]:
        fields: dict[str, str] = {}
        for line in lines:
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                event = Event.model_validate_json(fields["data"])
                assert (fields["id"], fields["event"]) == (str(event.seq), event.type)
                yield event
                fields = {}

    headers = {"Accept": "text/event-stream", **{name.replace("_", "-"): value for name, value in headers.items()}}
    with http.stream("GET", f"/v1/searches/{search_id}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield parse(response.iter_lines())


def test_event_pages_can_be_followed(http: httpx.Client, stored: Engine, search_id: str) -> None:
    append_events(stored, search_id, 4)
    url = f"/v1/searches/{search_id}/events"
    first = http.get(url, params={"limit": 3}).json()
    assert [event["seq"] for event in first["data"]] == [1, 2, 3]
    assert (first["has_more"], first["next_cursor"]) == (True, "3")
    last = http.get(url, params={"cursor": "3"}).json()
    assert [event["data"].get("index") for event in last["data"]] == [2, 3]
    assert (last["has_more"], last["next_cursor"]) == (False, "5")
    assert http.get(url, params={"cursor": "5"}).json() == {"data": [], "has_more": False, "next_cursor": "5"}
    assert pointers(problem(http.get(url, params={"cursor": "last"}), 422, "invalid")) == ["?cursor"]


def test_stream_of_a_finished_search_replays_all_events(http: httpx.Client, stored: Engine, search_id: str) -> None:
    append_events(stored, search_id, 450)
    end(stored, search_id)
    with stream(http, search_id) as arriving:
        seen = list(arriving)
    assert [event.seq for event in seen] == list(range(1, 453))
    assert seen[-1].type == "search.cancelled"
    assert seen[5].data["text"] == "a\nb\r\n: c"


def test_stream_resumes_after_last_event_id(http: httpx.Client, stored: Engine, search_id: str) -> None:
    append_events(stored, search_id, 5)
    end(stored, search_id)
    with stream(http, search_id, Last_Event_ID="4") as arriving:
        assert [event.seq for event in arriving] == [5, 6, 7]
    with stream(http, search_id, Last_Event_ID="7") as arriving:
        assert list(arriving) == []


def test_events_arrive_without_a_notification(http: httpx.Client, stored: Engine, search_id: str) -> None:
    with stream(http, search_id) as arriving:
        assert next(arriving).type == "search.created"
        append_events(stored, search_id, 1)
        assert next(arriving).seq == 2
        end(stored, search_id)
        assert [event.type for event in arriving] == ["search.cancelled"]


def test_notification_delivers_events_immediately(api: Api, servers: Servers, stored: Engine, search_id: str) -> None:
    with stream(api.http, search_id) as arriving, Redis.from_url(servers.redis_url) as redis:
        next(arriving)
        for _ in range(3):
            append_events(stored, search_id, 1)
            time.sleep(0.05)
            began = time.monotonic()
            assert redis.publish(events.CHANNEL, search_id) >= 1
            next(arriving)
            assert time.monotonic() - began < 1


def test_concurrent_streams_hold_no_database_connections(http: httpx.Client, stored: Engine, search_id: str) -> None:
    # More than the pool has database connections.
    count = 40
    limits = httpx.Limits(max_connections=count)
    seen: list[list[int]] = []
    with httpx.Client(base_url=http.base_url, limits=limits, timeout=30, trust_env=False) as many:

        def follow() -> None:
            with stream(many, search_id) as arriving:
                seen.append([event.seq for event in arriving])

        threads = [threading.Thread(target=follow) for _ in range(count)]
        for thread in threads:
            thread.start()
        append_events(stored, search_id, 2)
        assert http.get("/v1/datasets?limit=1").status_code == 200
        end(stored, search_id)
        for thread in threads:
            thread.join()
    assert seen == [[1, 2, 3, 4]] * count


@pytest.mark.parametrize("ended_by", ["revoked", "expired", "signed out"])
def test_stream_ends_soon_after_its_key_or_session(keyed: KeyedApi, ended_by: str) -> None:
    search_id = rows.search(keyed.engine, rows.ready_dataset(keyed.engine))
    key = keyed.issued(["read"], expires_in_seconds=3 if ended_by == "expired" else 3600)
    cookie = keyed.sign_in(key["key"])
    sent = cookie if ended_by == "signed out" else {"Authorization": f"Bearer {key['key']}"}
    with stream(keyed.api.http, search_id, **sent) as arriving:
        assert next(arriving).type == "search.created"
        if ended_by == "revoked":
            assert keyed.send("DELETE", f"/v1/api-keys/{key['id']}").status_code == 204
        if ended_by == "signed out":
            own = cookie | {"Sec-Fetch-Site": "same-origin"}
            assert keyed.send("DELETE", "/v1/session", None, headers=own).status_code == 204
        began = time.monotonic()
        assert list(arriving) == []
        assert time.monotonic() - began < 8
        append_events(keyed.engine, search_id, 1)


def test_streams_per_key_are_limited(keyed: KeyedApi) -> None:
    search_id = rows.search(keyed.engine, rows.ready_dataset(keyed.engine))
    path, accept = f"/v1/searches/{search_id}/events", {"Accept": "text/event-stream"}
    key, other = keyed.issue("read"), keyed.issue("read")
    with ExitStack() as open_streams:
        following = [
            open_streams.enter_context(stream(keyed.api.http, search_id, Authorization=f"Bearer {key}"))
            for _ in range(MAX_EVENT_STREAMS)
        ]
        assert {next(arriving).type for arriving in following} == {"search.created"}
        refused = problem(keyed.send("GET", path, key, headers=accept), 429, "too_many_requests")
        assert "PARETOFIT_MAX_EVENT_STREAMS" in refused["detail"]
        assert keyed.send("GET", path, key).status_code == 200
        with stream(keyed.api.http, search_id, Authorization=f"Bearer {other}") as arriving:
            assert next(arriving).type == "search.created"
    end(keyed.engine, search_id)
    deadline = time.monotonic() + 10
    while (response := keyed.send("GET", path, key, headers=accept)).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Closed streams no longer count, and rejected ones never do.
    assert response.status_code == 200
    for _ in range(MAX_EVENT_STREAMS + 1):
        assert keyed.send("GET", "/v1/searches/none/events", key, headers=accept).status_code == 404


def test_stream_with_a_valid_key_lasts_until_the_search_ends(keyed: KeyedApi) -> None:
    search_id = rows.search(keyed.engine, rows.ready_dataset(keyed.engine))
    with stream(keyed.api.http, search_id, Authorization=f"Bearer {keyed.issue('read')}") as arriving:
        next(arriving)
        time.sleep(3)
        end(keyed.engine, search_id)
        assert [event.type for event in arriving] == ["search.cancelled"]
