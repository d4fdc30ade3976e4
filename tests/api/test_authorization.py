"""Every route as everybody who may not use it: without a key, with one that is over, of too little scope, of another
tenant; the pages in the same way, with sessions. A route that this file does not list fails it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import update

from paretofit.api.app import create_app
from paretofit.api.headers import PAGE_POLICY
from paretofit.api.principal import COOKIE
from paretofit.core.settings import Settings
from paretofit.db import exports, points, webhooks
from paretofit.db.blobs import open_store
from paretofit.db.engine import transaction
from paretofit.db.exports import Form, Source
from paretofit.db.tables import ApiKeyRow, PointRow
from tests.api import rows
from tests.api.keys import BOOTSTRAP, Locked
from tests.api.pages.test_samples import written_dataset
from tests.api.test_exports import RECORD
from tests.db import rows as workers

Theirs = Literal["hidden", "empty", "shared", "own"]
"""What another tenant finds: 404; a list without it; what is the same for all; what is its own by nature."""


@dataclass(frozen=True)
class Route:
    """`scope` is what it needs ("" any key, None nothing at all); `theirs` what another tenant's key with every scope
    finds."""

    scope: str | None
    theirs: Theirs
    body: Any = None


SEARCH = {"name": "s", "dataset_id": "{dataset_id}", "method": {"kind": "mutualnet"}}
ROUTES: dict[str, Route] = {
    "GET /healthz": Route(None, "shared"),
    "GET /readyz": Route(None, "shared"),
    "GET /metrics": Route("metrics", "shared"),
    "GET /v1/session": Route("", "own"),
    "POST /v1/session": Route("", "own"),
    "DELETE /v1/session": Route("", "own"),
    "GET /v1/searches/{search_id}/study": Route("read", "hidden"),
    "GET /v1/usage": Route("read", "own"),
    "GET /v1/methods": Route("read", "shared"),
    "GET /v1/methods/{kind}/schema": Route("read", "shared"),
    "GET /v1/families": Route("read", "shared"),
    "GET /v1/workers": Route("read", "shared"),
    "GET /v1/devices": Route("read", "shared"),
    "GET /v1/tenants": Route("admin", "shared"),
    "PUT /v1/tenants/{tenant_id}": Route("admin", "shared", {}),
    "GET /v1/audit": Route("manage", "empty"),
    "GET /v1/api-keys": Route("manage", "empty"),
    "POST /v1/api-keys": Route("manage", "own", {"name": "k", "scopes": ["read"]}),
    "GET /v1/api-keys/{key_id}": Route("manage", "hidden"),
    "DELETE /v1/api-keys/{key_id}": Route("manage", "hidden"),
    "POST /v1/api-keys/{key_id}/rotate": Route("manage", "hidden", {}),
    "GET /v1/webhooks": Route("manage", "empty"),
    "POST /v1/webhooks": Route("manage", "own", {"url": "https://hooks.example/x"}),
    "GET /v1/webhooks/{webhook_id}": Route("manage", "hidden"),
    "PATCH /v1/webhooks/{webhook_id}": Route("manage", "hidden", {"enabled": False}),
    "DELETE /v1/webhooks/{webhook_id}": Route("manage", "hidden"),
    "GET /v1/webhooks/{webhook_id}/deliveries": Route("manage", "hidden"),
    "GET /v1/datasets": Route("read", "empty"),
    "POST /v1/datasets": Route("write", "own", {"name": "d", "source": {"kind": "upload"}}),
    "GET /v1/datasets/{dataset_id}": Route("read", "hidden"),
    "PUT /v1/datasets/{dataset_id}/content": Route("write", "hidden"),
    "DELETE /v1/datasets/{dataset_id}": Route("write", "hidden"),
    "GET /v1/weights": Route("read", "empty"),
    "POST /v1/weights": Route("write", "own", {"name": "w", "source": {"kind": "upload"}}),
    "GET /v1/weights/sources": Route("read", "shared"),
    "GET /v1/weights/{weights_id}": Route("read", "hidden"),
    "PUT /v1/weights/{weights_id}/content": Route("write", "hidden"),
    "GET /v1/weights/{weights_id}/content": Route("read", "hidden"),
    "DELETE /v1/weights/{weights_id}": Route("write", "hidden"),
    "GET /v1/searches": Route("read", "empty"),
    "POST /v1/searches": Route("write", "hidden", SEARCH),
    "POST /v1/searches/estimate": Route("read", "hidden", SEARCH),
    "GET /v1/searches/{search_id}": Route("read", "hidden"),
    "PATCH /v1/searches/{search_id}": Route("write", "hidden", {"name": "n"}),
    "DELETE /v1/searches/{search_id}": Route("write", "hidden"),
    "POST /v1/searches/{search_id}/cancel": Route("write", "hidden"),
    "POST /v1/searches/{search_id}/pause": Route("write", "hidden"),
    "POST /v1/searches/{search_id}/resume": Route("write", "hidden"),
    "POST /v1/searches/{search_id}/clone": Route("write", "hidden"),
    "GET /v1/searches/{search_id}/trials": Route("read", "hidden"),
    "GET /v1/searches/{search_id}/events": Route("read", "hidden"),
    "GET /v1/searches/{search_id}/front": Route("read", "hidden"),
    "POST /v1/searches/{search_id}/front/select": Route("read", "hidden", {}),
    "GET /v1/trials/{trial_id}": Route("read", "hidden"),
    "GET /v1/trials/{trial_id}/logs": Route("read", "hidden"),
    "GET /v1/trials/{trial_id}/metrics": Route("read", "hidden"),
    "GET /v1/points/{point_id}": Route("read", "hidden"),
    "GET /v1/points/{point_id}/card": Route("read", "hidden"),
    "GET /v1/points/{point_id}/exports": Route("read", "hidden"),
    "POST /v1/points/{point_id}/exports": Route("write", "hidden", {"format": "onnx"}),
    "GET /v1/exports/{export_id}": Route("read", "hidden"),
    "GET /v1/artifacts/{artifact_id}": Route("read", "hidden"),
    "GET /v1/artifacts/{artifact_id}/content": Route("read", "hidden"),
}
"""The API's. Its document lists the same."""

PAGES: dict[str, Route] = {
    "GET /": Route(None, "shared"),
    "GET /assets/{digest}/{name}": Route(None, "shared"),
    "GET /searches": Route("read", "empty"),
    "GET /searches/new": Route("read", "empty"),
    "GET /searches/new?from={search_id}": Route("read", "hidden"),
    "GET /searches/{search_id}": Route("read", "hidden"),
    "GET /searches/{search_id}/parts/progress": Route("read", "hidden"),
    "GET /searches/{search_id}/parts/front": Route("read", "hidden"),
    "GET /trials/{trial_id}": Route("read", "hidden"),
    "GET /points/{point_id}": Route("read", "hidden"),
    "GET /artifacts/{artifact_id}/picture": Route("read", "hidden"),
    "GET /compare": Route("read", "empty"),
    "GET /compare?search={search_id}": Route("read", "hidden"),
    "GET /datasets": Route("read", "empty"),
    "GET /datasets/{dataset_id}": Route("read", "hidden"),
    "GET /datasets/{dataset_id}/samples/{row}": Route("read", "hidden"),
    "GET /weights": Route("read", "empty"),
    "GET /weights/{weights_id}": Route("read", "hidden"),
    "GET /workers": Route("read", "shared"),
    "GET /keys": Route("manage", "empty"),
}
ID = re.compile(r"\w+")
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
DOCUMENTS = {"GET /openapi.json", "GET /docs", "GET /docs/style.css"}
"""The same for everybody, and open to everybody."""

GUARDED = [name for name, route in ROUTES.items() if route.scope is not None]
GUARDED_PAGES = [name for name, route in PAGES.items() if route.scope is not None]
EVERY = ("read", "write", "manage", "metrics", "admin")


@dataclass(frozen=True)
class World:
    """The ids of a tenant's things, and keys of it and of another tenant."""

    service: Locked
    ids: dict[str, str]
    full: str
    theirs: str
    expired: str
    revoked: str

    @property
    def private(self) -> set[str]:
        """What no other tenant may be told."""
        return {value for name, value in self.ids.items() if name.endswith("_id") and name != "tenant_id"}

    def send(self, name: str, key: str | None) -> httpx.Response:
        method, path = name.split(" ")
        body = ROUTES[name].body
        if isinstance(body, dict):
            body = {field: self.ids.get(str(value).strip("{}"), value) for field, value in body.items()}
        return self.service.send(method, path.format(**self.ids), key, json=body)

    def look(self, name: str, cookie: dict[str, str]) -> httpx.Response:
        """A page, as a browser asks for it."""
        method, path = name.split(" ")
        return self.service.send(method, path.format(**self.ids), None, headers=cookie)


@pytest.fixture(scope="module")
def world(keyed: Locked) -> World:
    """Of one tenant, one of everything."""
    engine = keyed.engine
    *_, manifest = written_dataset(keyed.api.home, 1, "raw")
    dataset = rows.ready_dataset(engine, manifest=manifest)
    search = rows.search(engine, dataset)
    trial = rows.trial(engine, search)
    content = b"weights"
    path = keyed.api.home / "file"
    path.write_bytes(content)
    blob = open_store((keyed.api.home / "blobs").as_uri()).put(path)
    assert blob.sha256 == hashlib.sha256(content).hexdigest()
    artifact = rows.artifact(engine, search, trial, name="w.png", sha256=blob.sha256, size=blob.size)
    point = rows.point(engine, search, trial, "k", macs=1.0, selection_top1=0.5, artifact_id=artifact)
    with transaction(engine) as session:
        row = session.get_one(PointRow, point)
        row.record = RECORD
    with transaction(engine) as session:
        found = points.get(session, "default", point)
        assert found is not None
        form = Form("onnx", "float32", (32, 32))
        export = exports.request(session, found, Source(blob.sha256, supernet=False), form).row.id
        webhook = webhooks.insert(
            session, "default", url="https://hooks.example/", events=["search.failed"], secret="whsec_AAAA"
        ).id
    weights = workers.add_weights(engine, sha256=blob.sha256, size=blob.size)
    key = keyed.issued(["read"])["id"]
    expired, revoked = keyed.issued(EVERY), keyed.issued(EVERY)
    with transaction(engine) as session:
        session.execute(
            update(ApiKeyRow)
            .where(ApiKeyRow.id == expired["id"])
            .values(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        )
    assert keyed.send("DELETE", f"/v1/api-keys/{revoked['id']}").status_code == 204
    return World(
        keyed,
        {
            "kind": "mutualnet",
            "tenant_id": "third",
            "key_id": key,
            "webhook_id": webhook,
            "dataset_id": dataset,
            "weights_id": weights,
            "search_id": search,
            "trial_id": trial,
            "point_id": point,
            "export_id": export,
            "artifact_id": artifact,
            "digest": "old",
            "name": "style.css",
            "row": "0",
        },
        full=keyed.issue(*EVERY),
        theirs=keyed.issue(*EVERY, tenant="another"),
        expired=expired["key"],
        revoked=revoked["key"],
    )


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_every_route_is_listed(tmp_path: Path) -> None:
    # Nothing is connected to before the first request.
    app = create_app(
        Settings(home=tmp_path, database_url="postgresql://localhost/none", redis_url="redis://localhost/0")
    )
    served = {
        f"{method} {route.path}"
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or {"(any)"}) - {"HEAD"}
    }
    listed = set(ROUTES) | {name.partition("?")[0] for name in PAGES} | DOCUMENTS
    assert served == listed, "list the new route above, with the scope it needs and what other tenants find"


def test_every_route_of_the_api_is_documented(keyed: Locked) -> None:
    paths = keyed.send("GET", "/openapi.json", None).json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert served == set(ROUTES)


def test_the_document_names_the_scopes(keyed: Locked) -> None:
    paths = keyed.send("GET", "/openapi.json", None).json()["paths"]
    for name, route in ROUTES.items():
        method, path = name.split(" ")
        named = paths[path][method.lower()]["security"]
        expected = [route.scope] if route.scope else []
        assert named == ([{}] if route.scope is None else [{}, {"key": expected}, {"session": expected}]), name


def test_without_a_key(world: World) -> None:
    for name in ROUTES:
        answer = world.send(name, None)
        if ROUTES[name].scope is None:
            assert answer.status_code == 200, name
        else:
            assert (name, *code(answer)) == (name, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_with_a_key_that_is_not_good(world: World) -> None:
    good = world.full
    for key in (world.expired, world.revoked, good[:-1] + ("0" if good[-1] != "0" else "1")):
        for name in GUARDED:
            assert (name, *code(world.send(name, key))) == (name, 401, "unauthorized")
        assert code(world.service.send("GET", "/v1/nothing", key)) == (401, "unauthorized")


def test_with_every_scope_but_the_one_it_needs(world: World) -> None:
    lacking = {scope: world.service.issue(*(other for other in EVERY if other != scope)) for scope in EVERY}
    for name in GUARDED:
        if scope := ROUTES[name].scope:
            answer = world.send(name, lacking[scope])
            assert (name, *code(answer)) == (name, 403, "forbidden")
            assert answer.json()["needed"] == scope


@pytest.mark.parametrize("body", [b"{", b"\xff"])
def test_a_malformed_body_without_the_scope_is_forbidden(world: World, body: bytes) -> None:
    key = world.service.issue("metrics")
    for name in GUARDED:
        if ROUTES[name].scope and not name.startswith("GET"):
            method, path = name.split(" ")
            headers = {"Content-Type": "application/json"}
            answer = world.service.send(method, path.format(**world.ids), key, content=body, headers=headers)
            assert (name, *code(answer)) == (name, 403, "forbidden")


@pytest.mark.parametrize("name", GUARDED)
def test_with_another_tenants_key(world: World, name: str) -> None:
    answer = world.send(name, world.theirs)
    match ROUTES[name].theirs:
        case "hidden" if "{" in name:
            assert code(answer) == (404, "not_found")
        case "hidden":
            # The id is in the body: there it is a field that names nothing.
            assert code(answer) == (422, "invalid")
        case "empty":
            assert answer.status_code == 200
            assert not set(world.ids.values()) & {str(entry["id"]) for entry in answer.json()["data"]}
        case _:
            assert answer.status_code < 300, answer.text
    assert not world.private & set(answer.text.split('"'))


def test_with_the_right_key_it_is_there(world: World) -> None:
    for name in GUARDED:
        if name.startswith("GET"):
            status = world.send(name, world.full).status_code
            assert status == 200, name


def test_another_tenants_deed_leaves_everything_as_it_was(world: World) -> None:
    path = f"/v1/datasets/{world.ids['dataset_id']}"
    assert code(world.service.send("PUT", f"{path}/content", world.theirs, content=b"x")) == (404, "not_found")
    assert code(world.service.send("DELETE", path, world.theirs)) == (404, "not_found")
    assert world.service.send("GET", path, world.full).json()["state"] == "ready"
    assert not (world.service.api.home / "uploads" / world.ids["dataset_id"]).exists()
    path = f"/v1/weights/{world.ids['weights_id']}"
    assert code(world.service.send("PUT", f"{path}/content", world.theirs, content=b"x")) == (404, "not_found")
    assert code(world.service.send("DELETE", path, world.theirs)) == (404, "not_found")
    assert world.service.send("GET", path, world.full).json()["state"] == "ready"


def test_pages_without_a_session(world: World) -> None:
    over = world.service.sign_in(world.full)
    assert world.service.send("DELETE", "/v1/session", None, headers=over | OWN_PAGE).status_code == 204
    for name, route in PAGES.items():
        for cookie in ({}, over, {"Cookie": f"{COOKIE}=none"}):
            answer = world.look(name, cookie)
            if route.scope is None:
                assert answer.status_code < 400, name
                continue
            assert (name, answer.status_code) == (name, 401)
            assert 'id="sign-in"' in answer.text
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
            assert not world.private & set(ID.findall(answer.text))


def test_pages_take_no_key(world: World) -> None:
    for name in GUARDED_PAGES:
        assert world.look(name, {"Authorization": f"Bearer {world.full}"}).status_code == 401, name


def test_pages_with_every_scope_but_the_one_they_need(world: World) -> None:
    for scope in ("read", "manage"):
        lacking = world.service.sign_in(world.service.issue(*(other for other in EVERY if other != scope)))
        for name in GUARDED_PAGES:
            if PAGES[name].scope == scope:
                answer = world.look(name, lacking)
                assert (name, answer.status_code) == (name, 403)
                assert f"the scope &#39;{scope}&#39;" in answer.text
                assert 'id="sign-out"' in answer.text
                assert not world.private & set(ID.findall(answer.text))


def test_pages_with_another_tenants_session(world: World) -> None:
    theirs, own = world.service.sign_in(world.theirs), world.service.sign_in(world.full)
    for name in GUARDED_PAGES:
        assert (name, world.look(name, own).status_code) == (name, 200)
        answer = world.look(name, theirs)
        assert (name, answer.status_code) == (name, 404 if PAGES[name].theirs == "hidden" else 200)
        # What was asked for is told back.
        asked = {value for field, value in world.ids.items() if f"{{{field}}}" in name}
        assert not (world.private - asked) & set(ID.findall(answer.text))


def test_a_page_says_whose_it_is(world: World) -> None:
    answer = world.look("GET /searches", world.service.sign_in(world.theirs))
    assert re.search(r"another <small>key:\w+</small>", answer.text)
    answer = world.look("GET /searches", world.service.sign_in(BOOTSTRAP))
    assert "default <small>bootstrap</small>" in answer.text
