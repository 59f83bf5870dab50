"""How many requests a key may make, over all replicas.

One ``RateLimiter`` holds a bucket of tokens per key; a request spends one. Replicas lease tokens from it, several at
a time for a key that asks much, so that a request rarely waits for another process. Whatever the replicas do, no more
is answered than ``limit x time + burst``. What is leased and not spent within a second is lost, never saved up.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Clock = Callable[[], float]
Lease = Callable[[str, float, int], Awaitable[tuple[int, float]]]
"""``(key_id, per_minute, amount)`` to the number granted and, if that is 0, the seconds until there is one."""

_BURST_S = 10.0
_LEASE_S = 1.0
# Waiting exactly as long as one was told must be enough, in spite of rounding.
_ROUNDING = 1e-6
_LOGGER = logging.getLogger("winnow.api")


def burst_of(per_minute: float) -> float:
    """Most requests that may come at once: those of ten seconds, and at least one."""
    return max(1.0, per_minute / 60 * _BURST_S)


class TokenBucket:
    """Fills at ``per_minute`` up to the burst. ``now`` is any steady clock, in seconds."""

    def __init__(self, per_minute: float, *, now: float) -> None:
        self._per_minute = per_minute
        self._tokens = burst_of(per_minute)
        self._seen = now

    def lease(self, amount: int, *, now: float) -> tuple[int, float]:
        """How many of ``amount`` tokens are taken out, and the seconds until there is one if there is none."""
        self._fill(now)
        granted = min(amount, int(self._tokens + _ROUNDING))
        self._tokens = max(0.0, self._tokens - granted)
        return granted, 0.0 if granted else (1 - self._tokens) * 60 / self._per_minute

    def limit(self, per_minute: float, *, now: float) -> None:
        """From ``now`` on, fill at ``per_minute``; a new burst is no gift."""
        self._fill(now)
        self._per_minute = per_minute
        self._tokens = min(self._tokens, burst_of(per_minute))

    def _fill(self, now: float) -> None:
        earned = max(0.0, now - self._seen) * self._per_minute / 60
        self._tokens = min(burst_of(self._per_minute), self._tokens + earned)
        self._seen = max(self._seen, now)


class RateLimiter:
    """A bucket per key, in the one process that all ask."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, key_id: str, per_minute: float) -> float:
        """0 if the key may make one more request now, else the seconds after which it may."""
        return self.lease(key_id, per_minute, 1)[1]

    def lease(self, key_id: str, per_minute: float, amount: int) -> tuple[int, float]:
        """How many of ``amount`` requests the key may make now, and the seconds to wait if it is none."""
        now = self._clock()
        bucket = self._buckets.get(key_id)
        if bucket is None:
            bucket = self._buckets[key_id] = TokenBucket(per_minute, now=now)
        bucket.limit(per_minute, now=now)
        return bucket.lease(amount, now=now)


@dataclass(slots=True)
class _Held:
    """What a replica has of a key's tokens, and how much the key asks of it."""

    tokens: int = 0
    expire: float = 0.0
    closed_until: float = 0.0
    second_began: float = 0.0
    asked: int = 0
    asked_before: int = 0
    """In the second before the one that runs."""
    leasing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def note_request(self, now: float) -> None:
        if now - self.second_began >= _LEASE_S:
            is_next = now - self.second_began < 2 * _LEASE_S
            self.asked_before = self.asked if is_next else 0
            self.asked, self.second_began = 0, now
        self.asked += 1

    def amount_to_lease(self) -> int:
        """Half of what a second asks: a lease that is spent before it expires wastes nothing."""
        return max(1, max(self.asked, self.asked_before) // 2)

    def spend(self, now: float) -> float | None:
        """0 if a token was left, the seconds to wait if there will be none for so long, ``None`` if nobody knows."""
        if self.tokens and now < self.expire:
            self.tokens -= 1
            return 0.0
        return self.closed_until - now if now < self.closed_until else None


class LeasedRates:
    """A replica's share of a ``RateLimiter`` that is elsewhere, behind ``lease``.

    While ``lease`` fails, the replica keeps to the limit by itself: a limit is no reason to refuse everybody.
    """

    def __init__(self, lease: Lease, *, clock: Clock = time.monotonic) -> None:
        self._lease = lease
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._own = RateLimiter(clock=clock)
        self._alone_until = 0.0

    async def take(self, key_id: str, per_minute: float) -> float:
        """0 if the key may make one more request now, else the seconds after which it may."""
        held = self._held.get(key_id)
        if held is None:
            held = self._held[key_id] = _Held()
        now = self._clock()
        held.note_request(now)
        wait_s = held.spend(now)
        return await self._take_from_lease(held, key_id, per_minute) if wait_s is None else wait_s

    async def _take_from_lease(self, held: _Held, key_id: str, per_minute: float) -> float:
        # One lease at a time: it may be enough for all who wait.
        async with held.leasing:
            now = self._clock()
            if (wait_s := held.spend(now)) is not None:
                return wait_s
            granted, wait_s = await self._ask(key_id, per_minute, held.amount_to_lease())
            # From before the question, so that time on the way makes no lease longer.
            held.tokens, held.expire = max(0, granted - 1), now + _LEASE_S
            held.closed_until = 0.0 if granted else self._clock() + wait_s
            return wait_s

    async def _ask(self, key_id: str, per_minute: float, amount: int) -> tuple[int, float]:
        if self._clock() < self._alone_until:
            return self._own.lease(key_id, per_minute, 1)
        try:
            async with asyncio.timeout(_LEASE_S):
                return await self._lease(key_id, per_minute, amount)
        except Exception as error:
            _LOGGER.warning("keys are limited on each replica by itself: %s", type(error).__name__)
            self._alone_until = self._clock() + _LEASE_S
            return self._own.lease(key_id, per_minute, 1)
