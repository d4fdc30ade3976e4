"""The bootstrap key and the allowed hosts."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.api.process import running

KEY = "a-long-random-value"


def test_every_v1_route_requires_the_key(tmp_path: Path, database_url: str, redis_url: str) -> None:
    with running(tmp_path, database_url, redis_url, PARETOFIT_HOST="0.0.0.0", PARETOFIT_BOOTSTRAP_KEY=KEY) as api:
        url = f"http://127.0.0.1:{api.http.base_url.port}"
        paths = httpx.get(f"{url}/openapi.json", trust_env=False).json()["paths"]
        requests = 0
        with httpx.Client(base_url=url, trust_env=False) as http:
            for path, methods in paths.items():
                if not path.startswith("/v1/"):
                    continue
                # Thirty failures in a row are rate-limited; `test_authorization` requests every route.
                for method in methods if requests < 25 else ():
                    response = http.request(method, path)
                    assert response.status_code == 401, (method, path)
                    assert response.headers["Content-Type"] == "application/problem+json"
                    assert response.headers["WWW-Authenticate"] == "Bearer"
                    assert response.json()["code"] == "unauthorized"
                    requests += 1
            assert requests >= 20
            for wrong in (f"Bearer {KEY}x", f"Basic {KEY}", KEY, "Bearer"):
                assert http.get("/v1/datasets", headers={"Authorization": wrong}).status_code == 401
            assert http.get("/v1/datasets", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
            assert http.get("/healthz").status_code == 200
        assert KEY not in api.log.read_text()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "[::1].evil"])
def test_loopback_rejects_other_hosts(http: httpx.Client, host: str) -> None:
    response = http.get("/v1/datasets", headers={"Host": host})
    assert response.status_code == 421, response.text
    assert response.json()["code"] == "misdirected"


@pytest.mark.parametrize("host", ["localhost", "localhost:123", "127.0.0.1", "[::1]:80"])
def test_loopback_accepts_its_own_names(http: httpx.Client, host: str) -> None:
    assert http.get("/v1/datasets", headers={"Host": host}).status_code == 200
