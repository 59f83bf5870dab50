"""Serves what an alias of the registry names, whenever somebody moves it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from winnow.api.aside import aside
from winnow.api.protocol import SwapBusyError, SwapRefusedError
from winnow.errors import WinnowError
from winnow.retrieval.reference import Located, RegistryEntry, Source, parse_reference

_log = logging.getLogger("winnow.api")


class AliasFollower:
    """Only a move swaps, so what was chosen by hand stays until the next move."""

    def __init__(
        self,
        source: Source,
        reference: str,
        *,
        seen: str | None,
        take: Callable[[str, Located], Awaitable[Any]],
        unmoved: Callable[[], None] = lambda: None,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        """``seen`` is the number that ``reference`` named when it was last looked up; ``take`` serves what was fetched.

        ``unmoved`` is called whenever the registry still names it, ``moved`` when ``seen`` has changed.
        """
        self.seen = seen
        self._source = source
        self._reference = reference
        self._take = take
        self._unmoved = unmoved
        self._moved = moved

    @property
    def has_alias(self) -> bool:
        """Whether there is anything to follow: directories and numbers do not move."""
        entry = parse_reference(self._reference)
        return isinstance(entry, RegistryEntry) and entry.alias is not None

    async def follow(self, *, every_s: float) -> None:
        """Returns at once without an alias, and never with one."""
        while self.has_alias:
            await asyncio.sleep(every_s)
            try:
                await self.look()
            except Exception:
                _log.exception("the alias could not be looked up; it is tried again")

    async def look(self) -> None:
        """Swap if the alias was moved. What is refused is not tried again, what could not be fetched is."""
        number = await aside(self._source.number, self._reference)
        if number is None:
            return
        if number == self.seen:
            self._unmoved()
        elif (located := await self._fetched()) is not None and await self._is_decided(located):
            self.seen = number
            self._moved()

    async def _fetched(self) -> Located | None:
        try:
            located = await aside(self._source.fetch, self._reference)
        except (WinnowError, OSError) as error:
            _log.warning("%r was moved, and what it names now cannot be fetched: %s", self._reference, error)
            return None
        # Away again: this is what was served last.
        return None if located.notice is not None else located

    async def _is_decided(self, located: Located) -> bool:
        try:
            await self._take(self._reference, located)
        except SwapBusyError:
            return False
        except SwapRefusedError as error:
            _log.warning("%s; the version served before goes on", error)
        return True
