"""Every route without a key, with an expired key, without the scope and as another tenant; every page likewise with
sessions. A route that is not listed here fails a test."""

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
from tests.api.keys import BOOTSTRAP, KeyedApi
from tests.api.pages.test_samples import written_dataset
from tests.api.test_exports import RECORD
from tests.db import rows as workers

OtherTenant = Literal["hidden", "empty", "shared", "own"]
"""The response to another tenant: 404; a list without the resource; the same for all tenants; its own data."""


@dataclass(frozen=True)
class Route:
    """`scope` is the required scope ("": any key, None: public); `other_tenant` is the response to another tenant with
    every scope."""

    scope: str | None
    other_tenant: OtherTenant
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
    "GET /v1/datasets/{dataset_id}/front": Route("read", "hidden"),
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
"""The routes of the API, which are those of the OpenAPI document."""

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
    "GET /datasets/{dataset_id}/parts/front": Route("read", "hidden"),
    "GET /datasets/{dataset_id}/samples/{row}": Route("read", "hidden"),
    "GET /weights": Route("read", "empty"),
    "GET /weights/{weights_id}": Route("read", "hidden"),
    "GET /workers": Route("read", "shared"),
    "GET /keys": Route("manage", "empty"),
}
ID = re.compile(r"\w+")
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
DOCUMENTS = {"GET /openapi.json", "GET /docs", "GET /docs/style.css"}
"""Public, and the same for all tenants."""

GUARDED = [name for name, route in ROUTES.items() if route.scope is not None]
GUARDED_PAGES = [name for name, route in PAGES.items() if route.scope is not None]
EVERY = ("read", "write", "manage", "metrics", "admin")


@dataclass(frozen=True)
class Tenants:
    """The ids of a tenant's resources, and keys of this tenant and of another one."""

    service: KeyedApi
    ids: dict[str, str]
    full: str
    other_key: str
    expired: str
    revoked: str

    @property
    def private(self) -> set[str]:
        """The ids that no other tenant may see."""
        return {value for name, value in self.ids.items() if name.endswith("_id") and name != "tenant_id"}

    def send(self, name: str, key: str | None) -> httpx.Response:
        method, path = name.split(" ")
        body = ROUTES[name].body
        if isinstance(body, dict):
            body = {field: self.ids.get(str(value).strip("{}"), value) for field, value in body.items()}
        return self.service.send(method, path.format(**self.ids), key, json=body)

    def get_page(self, name: str, cookie: dict[str, str]) -> httpx.Response:
        """Request a page like a browser."""
        method, path = name.split(" ")
        return self.service.send(method, path.format(**self.ids), None, headers=cookie)


@pytest.fixture(scope="module")
def tenants(keyed: KeyedApi) -> Tenants:
    """A tenant with one resource of each kind, and another tenant."""
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
        stored_point = points.get(session, "default", point)
        assert stored_point is not None
        form = Form("onnx", "float32", (32, 32))
        export = exports.request(session, stored_point, Source(blob.sha256, supernet=False), form).row.id
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
    return Tenants(
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
        other_key=keyed.issue(*EVERY, tenant="another"),
        expired=expired["key"],
        revoked=revoked["key"],
    )


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_every_route_is_listed(tmp_path: Path) -> None:
    # The application connects to nothing before the first request.
    app = create_app(
        Settings(home=tmp_path, database_url="postgresql://localhost/none", redis_url="redis://localhost/0")
    )
    served = {
        f"{method} {route.path}"
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or {"(any)"}) - {"HEAD"}
    }
    listed = set(ROUTES) | {name.partition("?")[0] for name in PAGES} | DOCUMENTS
    assert served == listed, "list the new route above, with its scope and the response to other tenants"


def test_every_route_of_the_api_is_documented(keyed: KeyedApi) -> None:
    paths = keyed.send("GET", "/openapi.json", None).json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert served == set(ROUTES)


def test_openapi_document_declares_the_scopes(keyed: KeyedApi) -> None:
    paths = keyed.send("GET", "/openapi.json", None).json()["paths"]
    for name, route in ROUTES.items():
        method, path = name.split(" ")
        named = paths[path][method.lower()]["security"]
        expected = [route.scope] if route.scope else []
        assert named == ([{}] if route.scope is None else [{}, {"key": expected}, {"session": expected}]), name


def test_missing_key_is_unauthorized(tenants: Tenants) -> None:
    for name in ROUTES:
        response = tenants.send(name, None)
        if ROUTES[name].scope is None:
            assert response.status_code == 200, name
        else:
            assert (name, *code(response)) == (name, 401, "unauthorized")
            assert response.headers["WWW-Authenticate"] == "Bearer"


def test_invalid_key_is_unauthorized(tenants: Tenants) -> None:
    good = tenants.full
    for key in (tenants.expired, tenants.revoked, good[:-1] + ("0" if good[-1] != "0" else "1")):
        for name in GUARDED:
            assert (name, *code(tenants.send(name, key))) == (name, 401, "unauthorized")
        assert code(tenants.service.send("GET", "/v1/nothing", key)) == (401, "unauthorized")


def test_missing_scope_is_forbidden(tenants: Tenants) -> None:
    lacking = {scope: tenants.service.issue(*(other for other in EVERY if other != scope)) for scope in EVERY}
    for name in GUARDED:
        if scope := ROUTES[name].scope:
            response = tenants.send(name, lacking[scope])
            assert (name, *code(response)) == (name, 403, "forbidden")
            assert response.json()["needed"] == scope


@pytest.mark.parametrize("body", [b"{", b"\xff"])
def test_malformed_body_without_the_scope_is_forbidden(tenants: Tenants, body: bytes) -> None:
    key = tenants.service.issue("metrics")
    for name in GUARDED:
        if ROUTES[name].scope and not name.startswith("GET"):
            method, path = name.split(" ")
            headers = {"Content-Type": "application/json"}
            response = tenants.service.send(method, path.format(**tenants.ids), key, content=body, headers=headers)
            assert (name, *code(response)) == (name, 403, "forbidden")


@pytest.mark.parametrize("name", GUARDED)
def test_routes_hide_resources_of_other_tenants(tenants: Tenants, name: str) -> None:
    response = tenants.send(name, tenants.other_key)
    match ROUTES[name].other_tenant:
        case "hidden" if "{" in name:
            assert code(response) == (404, "not_found")
        case "hidden":
            # The id is in the body, where an unknown id is an invalid field.
            assert code(response) == (422, "invalid")
        case "empty":
            assert response.status_code == 200
            assert not set(tenants.ids.values()) & {str(entry["id"]) for entry in response.json()["data"]}
        case _:
            assert response.status_code < 300, response.text
    assert not tenants.private & set(response.text.split('"'))


def test_valid_key_is_accepted(tenants: Tenants) -> None:
    for name in GUARDED:
        if name.startswith("GET"):
            status = tenants.send(name, tenants.full).status_code
            assert status == 200, name


def test_requests_of_another_tenant_change_nothing(tenants: Tenants) -> None:
    path = f"/v1/datasets/{tenants.ids['dataset_id']}"
    assert code(tenants.service.send("PUT", f"{path}/content", tenants.other_key, content=b"x")) == (404, "not_found")
    assert code(tenants.service.send("DELETE", path, tenants.other_key)) == (404, "not_found")
    assert tenants.service.send("GET", path, tenants.full).json()["state"] == "ready"
    assert not (tenants.service.api.home / "uploads" / tenants.ids["dataset_id"]).exists()
    path = f"/v1/weights/{tenants.ids['weights_id']}"
    assert code(tenants.service.send("PUT", f"{path}/content", tenants.other_key, content=b"x")) == (404, "not_found")
    assert code(tenants.service.send("DELETE", path, tenants.other_key)) == (404, "not_found")
    assert tenants.service.send("GET", path, tenants.full).json()["state"] == "ready"


def test_pages_without_a_session_show_the_sign_in_form(tenants: Tenants) -> None:
    ended = tenants.service.sign_in(tenants.full)
    assert tenants.service.send("DELETE", "/v1/session", None, headers=ended | OWN_PAGE).status_code == 204
    for name, route in PAGES.items():
        for cookie in ({}, ended, {"Cookie": f"{COOKIE}=none"}):
            response = tenants.get_page(name, cookie)
            if route.scope is None:
                assert response.status_code < 400, name
                continue
            assert (name, response.status_code) == (name, 401)
            assert 'id="sign-in"' in response.text
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert response.headers["Content-Security-Policy"] == PAGE_POLICY
            assert not tenants.private & set(ID.findall(response.text))


def test_pages_reject_api_keys(tenants: Tenants) -> None:
    for name in GUARDED_PAGES:
        assert tenants.get_page(name, {"Authorization": f"Bearer {tenants.full}"}).status_code == 401, name


def test_pages_reject_a_session_without_the_scope(tenants: Tenants) -> None:
    for scope in ("read", "manage"):
        lacking = tenants.service.sign_in(tenants.service.issue(*(other for other in EVERY if other != scope)))
        for name in GUARDED_PAGES:
            if PAGES[name].scope == scope:
                response = tenants.get_page(name, lacking)
                assert (name, response.status_code) == (name, 403)
                assert f"the scope &#39;{scope}&#39;" in response.text
                assert 'id="sign-out"' in response.text
                assert not tenants.private & set(ID.findall(response.text))


def test_pages_hide_resources_of_other_tenants(tenants: Tenants) -> None:
    other, own = tenants.service.sign_in(tenants.other_key), tenants.service.sign_in(tenants.full)
    for name in GUARDED_PAGES:
        assert (name, tenants.get_page(name, own).status_code) == (name, 200)
        response = tenants.get_page(name, other)
        assert (name, response.status_code) == (name, 404 if PAGES[name].other_tenant == "hidden" else 200)
        # The page may repeat the ids of its own URL.
        requested = {value for field, value in tenants.ids.items() if f"{{{field}}}" in name}
        assert not (tenants.private - requested) & set(ID.findall(response.text))


def test_page_shows_the_signed_in_tenant(tenants: Tenants) -> None:
    response = tenants.get_page("GET /searches", tenants.service.sign_in(tenants.other_key))
    assert re.search(r"another <small>key:\w+</small>", response.text)
    response = tenants.get_page("GET /searches", tenants.service.sign_in(BOOTSTRAP))
    assert "default <small>bootstrap</small>" in response.text
