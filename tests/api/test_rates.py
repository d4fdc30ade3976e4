"""Request rates, across all processes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from paretofit.api.problems import TooManyRequestsError
from paretofit.api.rates import LocalTokenBuckets, Rate, SharedBuckets
from tests.api.keys import keyed_api
from tests.api.test_problems import problem

NOWHERE = "redis://127.0.0.1:1/0"


def test_local_buckets_enforce_an_average_rate() -> None:
    now = 0.0
    buckets = LocalTokenBuckets(2, 4, clock=lambda: now)
    assert [buckets.take("a") for _ in range(4)] == [0.0] * 4
    assert buckets.take("a") == pytest.approx(0.5)
    now = 0.5
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0.0
    now = 100.0
    assert [buckets.take("a") == 0 for _ in range(5)] == [True] * 4 + [False]


def test_shared_buckets_enforce_one_rate(redis_url: str) -> None:
    one, other = SharedBuckets(redis_url), SharedBuckets(redis_url)
    taken = [buckets.take("a", 2, 4) for buckets in (one, other, other, one)]
    assert taken == [0.0] * 4
    wait = one.take("a", 2, 4)
    assert wait is not None
    assert 0 < wait <= 0.5
    assert other.take("b", 2, 4) == 0.0
    time.sleep(wait + 0.01)
    assert other.take("a", 2, 4) == 0.0


def test_concurrent_requests_share_the_burst(redis_url: str) -> None:
    buckets = SharedBuckets(redis_url)
    with ThreadPoolExecutor(16) as pool:
        waits = list(pool.map(lambda _: buckets.take("a", 0.01, 5), range(64)))
    assert sum(wait == 0 for wait in waits) == 5


def test_rate_is_limited_per_process_without_redis() -> None:
    rate = Rate("requests", 0.1, 3, SharedBuckets(NOWHERE))
    began = time.monotonic()
    for _ in range(3):
        rate.check("a")
    with pytest.raises(TooManyRequestsError) as refused:
        rate.check("a")
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 10
    # Only the first check waits for Redis.
    assert time.monotonic() - began < 2


def test_zero_rate_means_no_limit() -> None:
    rate = Rate("requests", 0, 0, None)
    for _ in range(100):
        rate.check("a")


def test_key_has_one_rate_across_processes_and_pages(tmp_path: Path, database_url: str, redis_url: str) -> None:
    variables = {"PARETOFIT_REQUESTS_PER_SECOND": "0.3"}
    with (
        keyed_api(tmp_path / "one", database_url, redis_url, **variables) as one,
        keyed_api(tmp_path / "other", database_url, redis_url, **variables) as other,
    ):
        key = one.issue("read")
        # The burst is three requests: this is the first.
        cookie = one.sign_in(key)
        assert other.send("GET", "/v1/usage", key).status_code == 200
        assert one.send("GET", "/workers", None, headers=cookie).status_code == 200
        page = other.send("GET", "/workers", None, headers=cookie)
        assert page.status_code == 429
        assert page.headers["Content-Type"].startswith("text/html")
        assert 1 <= int(page.headers["Retry-After"]) <= 4
        problem(one.send("GET", "/v1/usage", key), 429, "too_many_requests")
