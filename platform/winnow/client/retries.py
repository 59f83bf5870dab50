"""Whether a call is sent again, and after which pause. Sends and waits for nothing itself."""

import random
import re
import time
from dataclasses import dataclass, field

import httpx

from winnow.client.calls import Call

Outcome = httpx.Response | httpx.RequestError
"""What became of one attempt."""

_WORTH_REPEATING = frozenset({408, 429, 503})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_LONGEST_PAUSE_S = 30.0
_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how soon, and for how long altogether."""

    retries: int
    pause_s: float
    """The first pause; each later one is twice as long."""
    timeout_s: float
    """For the whole call, pauses included."""
    draws: random.Random = field(default_factory=random.SystemRandom, repr=False)


class Attempts:
    """The attempts at one call, from the moment that this object is made."""

    def __init__(self, call: Call, policy: RetryPolicy) -> None:
        self._call = call
        self._policy = policy
        self._made = 0
        self._deadline = time.monotonic() + policy.timeout_s

    @property
    def remaining_s(self) -> float:
        """What is left of the whole call's time."""
        return max(0.0, self._deadline - time.monotonic())

    def pause_after(self, outcome: Outcome) -> float | None:
        """Seconds until the next attempt; None if ``outcome`` is the last word."""
        self._made += 1
        if self._made > self._policy.retries or not self._is_worth_repeating(outcome):
            return None
        pause_s = self._pause(outcome)
        # An answer after the deadline is of no use, so what came is told now.
        return pause_s if pause_s < self.remaining_s else None

    def _is_worth_repeating(self, outcome: Outcome) -> bool:
        if self._call.repeat == "never":
            return False
        if isinstance(outcome, _NEVER_SENT):
            return True
        if self._call.repeat == "unsent":
            return False
        if isinstance(outcome, httpx.Response):
            return outcome.status_code in _WORTH_REPEATING
        return isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError)

    def _pause(self, outcome: Outcome) -> float:
        """The wanted or a growing pause, drawn so that callers refused together do not come back together."""
        wanted = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
        if _SECONDS.fullmatch(wanted):
            return min(float(wanted), _LONGEST_PAUSE_S) + self._policy.draws.uniform(0, self._policy.pause_s)
        growing = self._policy.pause_s * 2 ** min(self._made - 1, 16)
        return min(growing, _LONGEST_PAUSE_S) * self._policy.draws.uniform(0.5, 1)
