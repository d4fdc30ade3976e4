"""Rate limits: a token bucket per key or address. All API processes share the buckets in Redis; while Redis is
unavailable, each process has its own."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Final

import structlog

from paretofit.api.principal import LOCAL, Principal
from paretofit.api.problems import TooManyRequestsError
from paretofit.core.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

_log: structlog.stdlib.BoundLogger = structlog.get_logger("paretofit.api.rates")
_BURST_SECONDS: Final = 10
# Per address, without a valid key.
_FAILURES_PER_SECOND: Final = 1.0
_FAILURES: Final = 30
_MOST: Final = 10_000
"""Local buckets; the least recently used is evicted first."""
_ANSWER_SECONDS: Final = 0.5
_AWAY_SECONDS: Final = 1.0
"""Until Redis is tried again: no request waits for one that is known to be unavailable."""

# A bucket is stored as the time at which it will be full, by the clock of Redis. The time until then is the number of
# missing tokens.
_TAKE: Final = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local each, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local wait = full + each - now - each * burst
if wait > 0 then return tostring(wait) end
full = full + each
redis.call('SET', KEYS[1], string.format('%.6f', full), 'PX', math.ceil((full - now) * 1000))
return '0'
"""


class LocalTokenBuckets:
    """Token buckets of this process, with `burst` tokens each. Thread-safe."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def take(self, who: str) -> float:
        """0 if `who` may send a request now, otherwise the seconds to wait."""
        with self._lock:
            now = self._clock()
            left, at = self._buckets.get(who, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._per_second)
            if left < 1:
                return (1 - left) / self._per_second
            self._buckets[who] = (left - 1, now)
            self._buckets.move_to_end(who)
            if len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
            return 0.0


class SharedBuckets:
    """Token buckets in Redis, shared by all processes. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._away_until = -math.inf

    def take(self, who: str, per_second: float, burst: float) -> float | None:
        """0 if `who` may send a request now, otherwise the seconds to wait; None if Redis is unavailable."""
        from redis.exceptions import RedisError

        if time.monotonic() < self._away_until:
            return None
        try:
            return float(self._redis.eval(_TAKE, 1, f"paretofit:rate:{who}", str(1 / per_second), str(burst)))
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            _log.warning("redis_unavailable", error=str(error))
            return None

    @cached_property
    def _redis(self) -> Redis:
        # Imported on first use: it would delay startup by 0.1 s.
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return Redis.from_url(
            self._url,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            # One retry, for a connection that Redis has closed.
            retry=Retry(NoBackoff(), 1),
        )


class Rate:
    """A rate limit per name: `per_second` requests on average (0: unlimited), `burst` at once."""

    def __init__(self, name: str, per_second: float, burst: float, shared: SharedBuckets | None) -> None:
        self._name = name
        self._per_second = per_second
        self._burst = max(burst, 1.0)
        self._shared = shared
        self._own = LocalTokenBuckets(per_second, self._burst)

    def check(self, who: str) -> None:
        """Raises TooManyRequestsError."""
        if self._per_second == 0:
            return
        seconds = None
        if self._shared is not None:
            seconds = self._shared.take(f"{self._name}:{who}", self._per_second, self._burst)
        if seconds is None:
            seconds = self._own.take(who)
        if seconds > 0:
            raise TooManyRequestsError(
                "this key or address has reached its rate limit: wait for Retry-After seconds, then retry",
                headers={"Retry-After": str(math.ceil(seconds))},
            )


class Rates:
    """The limits of keys, including their sessions, and of addresses without a valid key."""

    def __init__(self, settings: Settings) -> None:
        shared = None if settings.redis_url is None else SharedBuckets(settings.redis_url)
        rate = settings.requests_per_second
        self._keys = Rate("asked", rate, rate * _BURST_SECONDS, shared)
        self._failed = Rate("failed", min(rate, _FAILURES_PER_SECOND), _FAILURES, shared)

    def admit(self, principal: Principal) -> None:
        """Count a request of an authenticated caller. Raises TooManyRequestsError."""
        if principal is not LOCAL:
            self._keys.check(principal.actor)

    def refuse(self, address: str) -> None:
        """Count a request without a valid key. Raises TooManyRequestsError."""
        self._failed.check(address)
