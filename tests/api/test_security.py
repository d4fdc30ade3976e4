"""Who is let in."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.api.process import running

KEY = "a-long-random-value"


def test_with_a_key_every_v1_route_needs_it(tmp_path: Path, database_url: str, redis_url: str) -> None:
    with running(tmp_path, database_url, redis_url, PARETOFIT_HOST="0.0.0.0", PARETOFIT_BOOTSTRAP_KEY=KEY) as api:
        url = f"http://127.0.0.1:{api.http.base_url.port}"
        paths = httpx.get(f"{url}/openapi.json", trust_env=False).json()["paths"]
        walked = 0
        with httpx.Client(base_url=url, trust_env=False) as http:
            for path, methods in paths.items():
                if not path.startswith("/v1/"):
                    continue
                # Who fails thirty times in a row is told to wait; `test_authorization` asks every route.
                for method in methods if walked < 25 else ():
                    answer = http.request(method, path)
                    assert answer.status_code == 401, (method, path)
                    assert answer.headers["Content-Type"] == "application/problem+json"
                    assert answer.headers["WWW-Authenticate"] == "Bearer"
                    assert answer.json()["code"] == "unauthorized"
                    walked += 1
            assert walked >= 20
            for wrong in (f"Bearer {KEY}x", f"Basic {KEY}", KEY, "Bearer"):
                assert http.get("/v1/datasets", headers={"Authorization": wrong}).status_code == 401
            assert http.get("/v1/datasets", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
            assert http.get("/healthz").status_code == 200
        assert KEY not in api.log.read_text()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "[::1].evil"])
def test_on_loopback_no_other_host_is_answered_for(http: httpx.Client, host: str) -> None:
    answer = http.get("/v1/datasets", headers={"Host": host})
    assert answer.status_code == 421, answer.text
    assert answer.json()["code"] == "misdirected"


@pytest.mark.parametrize("host", ["localhost", "localhost:123", "127.0.0.1", "[::1]:80"])
def test_on_loopback_its_own_names_are_answered_for(http: httpx.Client, host: str) -> None:
    assert http.get("/v1/datasets", headers={"Host": host}).status_code == 200
