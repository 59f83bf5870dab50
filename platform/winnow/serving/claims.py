"""Which kept versions endpoints need, so that the others can be deleted from the cache that they share.

An endpoint needs what it serves, what it served before, which a rollback would ask for, and what it wants to serve.
It says so in a file of its own, ``claim-<endpoint>.json``, which it touches while it lives. The claim outlives it for a
week: so long, it finds what it served although the registry is away.
"""

import asyncio
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import Timeout

from winnow.api.aside import aside
from winnow.files import read_json, write_json
from winnow.retrieval.keeping import VERSIONS, hidden_path, locked

_RENEW_EVERY_S = 60.0
_FORGOTTEN_S = 7 * 86_400.0
_ASKED_FOR_S = 600.0
"""What somebody asked for so lately may not be claimed yet."""
_UNFINISHED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}")
_log = logging.getLogger("winnow.api")


@dataclass(frozen=True, slots=True)
class Needs:
    """Ids of the versions that an endpoint needs."""

    serves: str | None = None
    before: str | None = None
    """What it served before that."""
    wants: Sequence[str] = ()
    """What it wants to serve, in the order in which it was asked to."""


class Claim:
    """What one endpoint needs of ``cache``."""

    def __init__(self, cache: Path, endpoint: str) -> None:
        self._cache = cache
        self._path = cache / f"claim-{endpoint}.json"
        self._changing = threading.Lock()

    def want(self, version: str) -> None:
        """``version`` is about to be loaded."""
        try:
            with self._changing:
                said = self._said()
                earlier = [wanted for wanted in said.wants if wanted != version]
                write_json(self._path, asdict(replace(said, wants=[*earlier, version])))
        except OSError as error:
            # It is served all the same.
            _log.warning("other endpoints may delete version %s, as it cannot be claimed: %s", version, error)

    def serve(self, version: str) -> None:
        """``version`` is served; what no endpoint needs is deleted."""
        try:
            with self._changing:
                said = self._said()
                before = said.before if said.serves == version else said.serves
                # What was asked for later is still on its way.
                later = said.wants[said.wants.index(version) + 1 :] if version in said.wants else said.wants
                write_json(self._path, asdict(Needs(version, before, later)))
            prune(self._cache)
        except (OSError, ValueError) as error:
            _log.warning("versions that nobody needs are not deleted now: %s", error)

    async def keep_renewing(self) -> None:
        """Say again and again that the endpoint is still there; returns never."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            with suppress(OSError):
                await aside(os.utime, self._path)

    def _said(self) -> Needs:
        with suppress(OSError, ValueError):
            return _read(self._path)
        return Needs()


def prune(cache: Path) -> None:
    """Delete what no endpoint needs, and what those who were killed left unfinished."""
    needed = _needed(cache)
    for path in sorted((cache / VERSIONS).glob("*")):
        unfinished = _UNFINISHED.fullmatch(path.name)
        if unfinished:
            _delete(path, path.with_name(unfinished["name"]), older_than_s=0)
        elif path.is_dir() and path.name not in needed:
            _delete(path, path, older_than_s=_ASKED_FOR_S)


def _needed(cache: Path) -> set[str | None]:
    needed: set[str | None] = set()
    for path in cache.glob("claim-*.json"):
        if _age_s(path) > _FORGOTTEN_S:
            path.unlink(missing_ok=True)
        else:
            needs = _read(path)
            needed.update((needs.serves, needs.before, *needs.wants))
    return needed


def _read(path: Path) -> Needs:
    try:
        return Needs(**read_json(path))
    except TypeError:
        raise ValueError(f"{path} is no claim of an endpoint; delete it") from None


def _delete(path: Path, kept: Path, *, older_than_s: float) -> None:
    """Unless somebody is at work there, or has been lately."""
    with suppress(Timeout, FileNotFoundError), locked(kept, timeout_s=0):
        if _age_s(path) < older_than_s:
            return
        # Renamed first: nobody finds half of it.
        going = path.rename(hidden_path(kept))
        _log.info("no endpoint needs %s, which is deleted", path)
        shutil.rmtree(going, ignore_errors=True)


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime
