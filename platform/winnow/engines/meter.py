"""Whose time was it? Splits the time an engine is at work among the requests it has in flight."""

import time
from collections.abc import Callable


class BusyMeter:
    """Each request's share of the time with at least one request in flight; the shares add up to that time.

    A moment with ``n`` requests in flight costs each of them ``1/n``. So a request's share is ``V(end) - V(start)``
    of ``V(t) = integral of dt / n(t)``, one number to keep however many there are. Belongs to one thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._num_in_flight = 0
        self._virtual_s = 0.0
        self._changed_at = clock()

    def start(self) -> float:
        """A request begins. Its mark, to be given to ``stop``."""
        self._advance()
        self._num_in_flight += 1
        return self._virtual_s

    def stop(self, mark: float) -> float:
        """The request with this mark ends. Its share, in seconds."""
        self._advance()
        self._num_in_flight -= 1
        return self._virtual_s - mark

    def _advance(self) -> None:
        now = self._clock()
        if self._num_in_flight:
            self._virtual_s += (now - self._changed_at) / self._num_in_flight
        self._changed_at = now
