"""How often somebody may ask: a bucket of tokens each, filled at a steady rate. All processes of the API share the
buckets in Redis; while that is away each process has its own."""

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
# Of one address, without a good key.
_FAILURES_PER_SECOND: Final = 1.0
_FAILURES: Final = 30
_MOST: Final = 10_000
"""Buckets that a process remembers; the one that was used longest ago is forgotten first."""
_ANSWER_SECONDS: Final = 0.5
_AWAY_SECONDS: Final = 1.0
"""Before Redis is asked again: no request waits for one that is known to be away."""

# All that is kept of a bucket is when it will be full, by the clock of Redis. Tokens that are missing are the time
# until then.
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
    """Those of this process, `burst` tokens each. Safe to use from several threads."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def take(self, who: str) -> float:
        """0 if `who` may ask now, otherwise the seconds until then."""
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
    """Those in Redis, of all processes. Safe to use from several threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._away_until = -math.inf

    def take(self, who: str, per_second: float, burst: float) -> float | None:
        """0 if `who` may ask now, otherwise the seconds until then; None if Redis does not say."""
        from redis.exceptions import RedisError

        if time.monotonic() < self._away_until:
            return None
        try:
            return float(self._redis.eval(_TAKE, 1, f"paretofit:rate:{who}", str(1 / per_second), str(burst)))
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            _log.warning("redis_away", error=str(error))
            return None

    @cached_property
    def _redis(self) -> Redis:
        # With the first question: it would delay the start by a tenth of a second.
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return Redis.from_url(
            self._url,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            # Once, for a connection that Redis closed meanwhile.
            retry=Retry(NoBackoff(), 1),
        )


class Rate:
    """`per_second` requests on average (0: any number), `burst` of them at once, of everybody who is named."""

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
                "more requests than this key or address may send: wait, then send it again",
                headers={"Retry-After": str(math.ceil(seconds))},
            )


class Rates:
    """That of keys, with the sessions that were opened by them, and that of addresses which send none that is good."""

    def __init__(self, settings: Settings) -> None:
        shared = None if settings.redis_url is None else SharedBuckets(settings.redis_url)
        rate = settings.requests_per_second
        self._asked = Rate("asked", rate, rate * _BURST_SECONDS, shared)
        self._failed = Rate("failed", min(rate, _FAILURES_PER_SECOND), _FAILURES, shared)

    def admit(self, principal: Principal) -> None:
        """Somebody who is known asks. Raises TooManyRequestsError."""
        if principal is not LOCAL:
            self._asked.check(principal.actor)

    def refuse(self, address: str) -> None:
        """Somebody sent no good key. Raises TooManyRequestsError."""
        self._failed.check(address)
