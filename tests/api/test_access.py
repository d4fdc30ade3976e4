"""Authentication and access: keys, sessions, hosts, origins, headers, rates and the audit log."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import select, update

from paretofit.api import access
from paretofit.db import keys
from paretofit.db.engine import transaction
from paretofit.db.tables import ApiKeyRow, SessionRow
from tests.api.keys import BOOTSTRAP, KeyedApi, keyed_api
from tests.api.test_problems import pointers, problem

EVERY = ["read", "write", "manage", "metrics", "admin"]


def test_key_has_its_format_and_is_stored_as_a_digest(keyed: KeyedApi) -> None:
    issued = keyed.issued(["read"])
    assert re.fullmatch(r"pf_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", issued["key"])
    parsed = keys.parse(issued["key"])
    assert parsed is not None
    assert parsed.secret not in repr(parsed)
    with transaction(keyed.engine) as session:
        row = session.get_one(ApiKeyRow, issued["id"])
        assert row.digest == parsed.digest
        assert parsed.secret.encode() not in row.digest
    listed = keyed.send("GET", "/v1/api-keys").text
    assert issued["id"] in listed
    assert parsed.secret not in listed


def test_rotated_key_is_valid_during_the_overlap(keyed: KeyedApi) -> None:
    old = keyed.issued(["read", "manage"])
    rotated = keyed.send("POST", f"/v1/api-keys/{old['id']}/rotate", json={"overlap_seconds": 2})
    assert rotated.status_code == 201
    new = rotated.json()
    assert (new["name"], new["scopes"]) == (old["name"], old["scopes"])
    for key in (old["key"], new["key"]):
        assert keyed.send("GET", "/v1/usage", key).status_code == 200
    problem(keyed.send("POST", f"/v1/api-keys/{old['id']}/rotate"), 409, "key_not_usable")
    assert keyed.send("GET", f"/v1/api-keys/{old['id']}").json()["successor_id"] == new["id"]
    time.sleep(2.1)
    problem(keyed.send("GET", "/v1/usage", old["key"]), 401, "unauthorized")
    assert keyed.send("GET", "/v1/usage", new["key"]).status_code == 200


def test_key_has_an_expiry_time(keyed: KeyedApi) -> None:
    issued = keyed.issued(["read"], expires_in_seconds=3600)
    ends = datetime.fromisoformat(issued["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < ends <= timedelta(hours=1)
    assert keyed.send("GET", "/v1/session", issued["key"]).json()["expires_at"] == issued["expires_at"]


def test_key_can_grant_only_its_own_scopes(keyed: KeyedApi) -> None:
    manager = keyed.issue("manage", "read")
    body = {"name": "k", "scopes": ["read"]}
    assert keyed.send("POST", "/v1/api-keys", manager, json=body).status_code == 201
    problem(keyed.send("POST", "/v1/api-keys", manager, json={**body, "scopes": ["read", "write"]}), 403, "forbidden")
    problem(keyed.send("POST", "/v1/api-keys", manager, json={**body, "tenant": "acme"}), 403, "forbidden")
    strong = keyed.issued(EVERY)
    problem(keyed.send("POST", f"/v1/api-keys/{strong['id']}/rotate", manager), 403, "forbidden")


@pytest.mark.parametrize("tenant", ["", "UPPER", "a b", "-x", "x" * 64, "ä", "../x"])
def test_invalid_tenant_ids_are_rejected(keyed: KeyedApi, tenant: str) -> None:
    response = keyed.send("POST", "/v1/api-keys", json={"name": "k", "scopes": ["read"], "tenant": tenant})
    assert pointers(problem(response, 422, "invalid")) == ["/tenant"]


def test_browser_signs_in_and_out(keyed: KeyedApi) -> None:
    key = keyed.issued(["read", "write"])
    origin = str(keyed.api.http.base_url).rstrip("/")
    page = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    signed = keyed.send("POST", "/v1/session", key["key"], headers=page)
    assert signed.status_code == 201
    cookie = signed.headers["Set-Cookie"]
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    token = cookie.partition("=")[2].partition(";")[0]
    with_cookie = {"Cookie": f"paretofit_session={token}"}
    assert keyed.send("GET", "/v1/session", None, headers=with_cookie).json()["actor"] == f"key:{key['id']}"
    body = {"name": "d", "source": {"kind": "upload"}}
    created = keyed.send("POST", "/v1/datasets", None, headers={**with_cookie, **page}, json=body)
    assert created.status_code == 201
    # Requests with the cookie that the service's own pages never send.
    problem(keyed.send("POST", "/v1/datasets", None, headers=with_cookie, json=body), 403, "cross_origin")
    problem(keyed.send("GET", "/v1/api-keys", None, headers=with_cookie), 403, "forbidden")
    with transaction(keyed.engine) as session:
        assert token.encode() not in [row.digest for row in session.scalars(select(SessionRow))]
    assert keyed.send("DELETE", "/v1/session", None, headers={**with_cookie, **page}).status_code == 204
    problem(keyed.send("GET", "/v1/session", None, headers=with_cookie), 401, "unauthorized")


def test_session_ends_with_its_key(keyed: KeyedApi) -> None:
    key = keyed.issued(["read"])
    token = keyed.send("POST", "/v1/session", key["key"]).cookies["paretofit_session"]
    with_cookie = {"Cookie": f"paretofit_session={token}"}
    assert keyed.send("GET", "/v1/usage", None, headers=with_cookie).status_code == 200
    assert keyed.send("DELETE", f"/v1/api-keys/{key['id']}").status_code == 204
    problem(keyed.send("GET", "/v1/usage", None, headers=with_cookie), 401, "unauthorized")


def test_session_ends_by_itself_and_with_the_bootstrap_key(keyed: KeyedApi) -> None:
    token = keyed.send("POST", "/v1/session").cookies["paretofit_session"]
    with_cookie = {"Cookie": f"paretofit_session={token}"}
    assert keyed.send("GET", "/v1/session", None, headers=with_cookie).json()["actor"] == "bootstrap"
    with transaction(keyed.engine) as session:
        session.execute(update(SessionRow).where(SessionRow.key_id.is_(None)).values(bootstrap=b"another key's"))
    problem(keyed.send("GET", "/v1/session", None, headers=with_cookie), 401, "unauthorized")
    token = keyed.send("POST", "/v1/session").cookies["paretofit_session"]
    with transaction(keyed.engine) as session:
        session.execute(update(SessionRow).values(expires_at=datetime.now(UTC)))
    with_cookie = {"Cookie": f"paretofit_session={token}"}
    problem(keyed.send("GET", "/v1/session", None, headers=with_cookie), 401, "unauthorized")


def test_cookie_is_secure_behind_tls(keyed: KeyedApi) -> None:
    host = {"Origin": "https://127.0.0.1", "Host": "127.0.0.1"}
    assert "secure" in keyed.send("POST", "/v1/session", headers=host).headers["Set-Cookie"].lower()


def test_loopback_needs_no_key_but_rejects_a_wrong_one(http: httpx.Client) -> None:
    caller = http.get("/v1/session").json()
    assert (caller["tenant"], caller["actor"], caller["scopes"]) == ("default", "local", EVERY)
    assert "Set-Cookie" not in http.post("/v1/session").headers
    problem(http.get("/v1/session", headers={"Authorization": "Bearer wrong"}), 401, "unauthorized")
    issued = http.post("/v1/api-keys", json={"name": "k", "scopes": ["read"], "tenant": "acme"}).json()
    as_acme = {"Authorization": f"Bearer {issued['key']}"}
    assert http.get("/v1/session", headers=as_acme).json()["tenant"] == "acme"
    problem(http.post("/v1/datasets", json={}, headers=as_acme), 403, "forbidden")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_cross_origin_writes_are_rejected(http: httpx.Client, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/v1/datasets"), ("PUT", "/v1/datasets/x/content"), ("DELETE", "/v1/searches/x")):
        problem(http.request(method, path, headers=headers), 403, "cross_origin")
    response = http.get("/v1/datasets", headers=headers)
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]
    preflight = http.options("/v1/datasets", headers={**headers, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_public_bind_accepts_addresses_and_allowed_hosts(tmp_path: Path, database_url: str, redis_url: str) -> None:
    variables = {"PARETOFIT_HOST": "0.0.0.0", "PARETOFIT_ALLOWED_HOSTS": "Search.example, other.example"}
    with keyed_api(tmp_path, database_url, redis_url, **variables) as service:
        # The server prints its public address; the test connects through loopback.
        service.api.http.base_url = httpx.URL(f"http://127.0.0.1:{service.api.http.base_url.port}")
        for host in (
            "search.example",
            "SEARCH.example:443",
            "other.example",
            "192.0.2.7:8000",
            "[2001:db8::1]",
            "localhost",
        ):
            assert service.send("GET", "/v1/usage", headers={"Host": host}).status_code == 200, host
        for host in ("evil.example", "search.example.evil.example", "", "a@search.example", "search.example:x"):
            problem(service.send("GET", "/v1/usage", headers={"Host": host}), 421, "misdirected")


class _Page(HTMLParser):
    """Collects what a browser would load or run for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.loads += [str(attributes[name]) for name in ("src", "href") if name in attributes and tag != "a"]
        self.inline += [name for name in attributes if name.startswith("on") or name == "style"]
        if tag in {"script", "style"} and "src" not in attributes:
            self.inline.append(tag)


def test_api_reference_loads_no_script_and_no_other_host(http: httpx.Client) -> None:
    response = http.get("/docs")
    assert response.status_code == 200
    page = _Page()
    page.feed(response.text)
    assert page.inline == []
    assert page.loads == ["/docs/style.css"]
    assert http.get("/docs/style.css").headers["Content-Type"].startswith("text/css")
    for path, methods in http.get("/openapi.json").json()["paths"].items():
        assert f"<code>{path}</code>" in response.text
        assert all(operation["operationId"] in response.text for operation in methods.values())
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_every_response_has_the_security_headers(http: httpx.Client) -> None:
    responses = [
        http.get(path) for path in ("/healthz", "/v1/datasets", "/v1/nothing", "/docs", "/openapi.json", "/metrics")
    ]
    responses += [http.post("/v1/datasets", json={}), http.get("/v1/datasets", headers={"Host": "evil.example"})]
    for response in responses:
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "server" not in response.headers
    assert http.get("/v1/datasets").headers["Cache-Control"] == "no-store"


def test_requests_are_rate_limited_per_key(tmp_path: Path, database_url: str, redis_url: str) -> None:
    with keyed_api(tmp_path, database_url, redis_url, PARETOFIT_REQUESTS_PER_SECOND="0.5") as service:
        one, other = service.issue("read"), service.issue("read")
        statuses = [service.send("GET", "/v1/usage", one).status_code for _ in range(8)]
        assert statuses[:5] == [200] * 5
        refused = service.send("GET", "/v1/usage", one)
        assert 1 <= int(refused.headers["Retry-After"]) <= 2
        problem(refused, 429, "too_many_requests")
        assert service.send("GET", "/v1/usage", other).status_code == 200
        wrong = [service.send("GET", "/v1/usage", None).status_code for _ in range(40)]
        assert wrong[:30] == [401] * 30
        assert wrong[-1] == 429
        # Failed attempts from an address do not block valid keys from the same address.
        assert service.send("GET", "/v1/usage", other).status_code == 200


def test_write_requests_are_in_the_audit_log(keyed: KeyedApi) -> None:
    manager = keyed.issued(["manage", "read", "write"], tenant="audited")
    reader = keyed.issued(["read"], tenant="audited")
    key = manager["key"]
    body = {"name": "d", "source": {"kind": "upload"}}
    created = keyed.send("POST", "/v1/datasets", key, json=body)
    keyed.send("POST", "/v1/datasets", key, json={})
    keyed.send("POST", "/v1/datasets", reader["key"], json=body)
    keyed.send("DELETE", f"/v1/datasets/{created.json()['id']}", key)
    keyed.send("GET", "/v1/datasets", key)
    first = keyed.send("GET", "/v1/audit?limit=3", key).json()
    second = keyed.send("GET", f"/v1/audit?cursor={first['next_cursor']}", key).json()
    assert (first["has_more"], second["has_more"]) == (True, False)
    entries = [*first["data"], *second["data"]]
    assert [(entry["actor"], entry["method"], entry["status"]) for entry in entries] == [
        (f"key:{manager['id']}", "DELETE", 204),
        (f"key:{reader['id']}", "POST", 403),
        (f"key:{manager['id']}", "POST", 422),
        (f"key:{manager['id']}", "POST", 201),
    ]
    assert entries[-1]["request_id"] == created.headers["X-Request-Id"]
    assert {entry["address"] for entry in entries} == {"127.0.0.1"}
    assert entries[0]["path"] == f"/v1/datasets/{created.json()['id']}"


def test_logs_contain_no_secrets(tmp_path: Path, database_url: str, redis_url: str) -> None:
    canary = "canary0123456789"
    with keyed_api(tmp_path, database_url, redis_url.replace("redis://", f"redis://:{canary}@")) as service:
        issued = service.issued(EVERY)
        secret = issued["key"].rpartition("_")[2]
        hook = service.send("POST", "/v1/webhooks", json={"url": "https://hooks.example/"}).json()["secret"]
        token = service.send("POST", "/v1/session").cookies["paretofit_session"]
        for text in (issued["key"], BOOTSTRAP, hook):
            service.send("GET", f"/v1/searches/{text}", text)
            service.send("GET", f"/v1/searches?label={text}")
            service.send("POST", "/v1/searches", json={"name": text})
            service.send("GET", "/v1/searches", None, headers={"Authorization": f"Basic {text}", "X-Request-Id": text})
            service.send("GET", "/healthz", None, headers={"Cookie": f"paretofit_session={token}", "User-Agent": text})
        assert service.send("GET", "/readyz", None).status_code in {200, 503}
        lines = service.api.log.read_text()
        assert issued["id"] in lines
        for text in (secret, BOOTSTRAP, hook, token, canary):
            assert text not in lines
        parsed = [json.loads(line) for line in lines.splitlines()]
        entries = [line for line in parsed if line.get("actor") == f"key:{issued['id']}"]
        assert entries
        assert {line["tenant"] for line in entries} == {"default"}
        assert all(line["request_id"] for line in entries)


def test_route_without_a_scope_is_rejected() -> None:
    app = FastAPI()
    app.add_api_route("/v1/open", lambda: None)
    app.add_api_route("/v1/read", lambda: None, dependencies=[access.requires("read")])
    routes = {route.path: route for route in iter_route_contexts(app.routes)}
    assert access.required_scopes(routes["/v1/read"]) == ["read"]
    with pytest.raises(LookupError, match="/v1/open declares no scope"):
        access.required_scopes(routes["/v1/open"])
