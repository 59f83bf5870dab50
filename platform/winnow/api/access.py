"""The keys in force and what each has left, for one process. Knows nothing of the web framework."""

import logging
import time
from pathlib import Path

from winnow.api.keys import KeyRing, read_keys
from winnow.api.rates import Clock, RateLimiter
from winnow.errors import ConfigError

_LOOK_EVERY_S = 1.0
_log = logging.getLogger("winnow.api")


class LocalAccess:
    """Keys from a file that is read again when it changes, and limits of this process alone."""

    def __init__(self, path: Path | None, *, clock: Clock = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._rates = RateLimiter(clock=clock)
        self._next_look = clock() + _LOOK_EVERY_S
        self._trouble = ""
        self._seen = None if path is None else _signature(path)
        self._keys = None if path is None else read_keys(path)

    @property
    def keys(self) -> KeyRing | None:
        """The keys in force now; ``None`` if none are asked for."""
        if self._path is not None and (now := self._clock()) >= self._next_look:
            self._next_look = now + _LOOK_EVERY_S
            self._look(self._path)
        return self._keys

    async def take(self, key_id: str, per_minute: float) -> float:
        """0 if this key may make one more request now, else the seconds after which it may."""
        return self._rates.take(key_id, per_minute)

    def _look(self, path: Path) -> None:
        try:
            # Taken before reading: a change in between is seen the next time.
            if (signature := _signature(path)) != self._seen:
                self._keys, self._seen, self._trouble = read_keys(path), signature, ""
        except ConfigError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.error("the keys read before stay in force: %s", error)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
