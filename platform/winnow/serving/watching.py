"""Readiness from searches in the background: what counts is that one has just worked, not that a process is there."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from winnow.api.protocol import FRESH_S, Readiness

_EVERY_S = 2.0
_log = logging.getLogger("winnow.api")


class SearchWatch:
    """Searches every 2 seconds and remembers what became of it. ``search`` returns the version that answered.

    A search that hangs is not given up: no other one is started, and what is known gets older.
    """

    def __init__(
        self,
        search: Callable[[], Awaitable[str]],
        *,
        every_s: float = _EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._search = search
        self._every_s = every_s
        self._clock = clock
        self._searched: float | None = None
        self._version: str | None = None
        self._problem: str | None = None
        self._task: asyncio.Task[Any] | None = None

    async def start(self) -> None:
        """Returns after the first search; the others follow."""
        await self._look()
        self._task = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """No further search."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def readiness(self) -> Readiness:
        """What the last search says."""
        if self._searched is None:
            return Readiness(is_ready=False, detail="no search has been tried yet")
        age_s = self._clock() - self._searched
        detail = self._problem
        if detail is None and age_s > FRESH_S:
            detail = f"the last search that ended is {age_s:.1f} s old; the searches after it hang, or wait"
        return Readiness(detail is None, detail or "a search has just worked", self._version, age_s)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._look()

    async def _look(self) -> None:
        try:
            self._version = await self._search()
            self._problem = None
        except Exception as error:
            # Whatever it is, callers would meet it too. They read its name only: the path needs no key.
            _log.warning("a search in the background failed", exc_info=True)
            self._problem = f"the last search failed ({type(error).__name__}); the log of the server has the details"
        self._searched = self._clock()
