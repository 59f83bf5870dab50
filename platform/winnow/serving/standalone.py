"""The HTTP application in this process alone, under uvicorn: no Ray, one replica."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from winnow.api.access import LocalAccess
from winnow.api.app import build_app
from winnow.api.aside import aside
from winnow.api.config import ServeConfig
from winnow.api.ports import bind_port
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.protocol import SwapBusyError, SwapOutcome, SwapRefusedError
from winnow.api.request_ids import set_up_log
from winnow.engines import build_server_engine
from winnow.errors import DataError, WinnowError
from winnow.retrieval.manifest import read_manifest
from winnow.retrieval.reference import Directories, Located, Source
from winnow.serving.claims import Claim
from winnow.serving.following import AliasFollower
from winnow.serving.service import RetrieverService

_KEEP_ALIVE_S = 75
"""Longer than clients and balancers keep idle connections, so that none is closed under a request on its way."""


def serve_alone(
    config: ServeConfig,
    *,
    reference: str,
    source: Source = Directories(),
    claim: Claim | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Returns after SIGTERM or SIGINT, when the requests in work are answered, or ``drain_s`` is over.

    ``claim`` is on the cache of ``source``, if it has one. ``on_ready`` is called when requests are answered. Call it
    from the main thread. Raises ``ConfigError`` if the port is taken, before anything is loaded; ``DataError`` if the
    version cannot be served.
    """
    with contextlib.closing(bind_port(config.host, config.port)) as bound:
        set_up_log(requests=config.log_requests)
        access = LocalAccess(config.keys)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, access, bound, reference, source, claim, on_ready))


class LocalVersions:
    """Implements ``Versions`` of ``protocol.py`` over the one service of this process."""

    def __init__(
        self,
        service: RetrieverService,
        *,
        reference: str,
        located: Located,
        source: Source = Directories(),
        claim: Claim | None = None,
    ) -> None:
        """``reference`` and ``located`` are of the version that ``service`` was started with."""
        self.follower = AliasFollower(
            source, reference, seen=located.number, take=self._take, unmoved=self._forget_notice
        )
        self._service = service
        self._reference = reference
        self._located = located
        self._source = source
        self._claim = claim
        self._claiming: asyncio.Task[None] | None = None
        self._swapping: asyncio.Task[SwapOutcome] | None = None

    async def swap(self, reference: str) -> SwapOutcome:
        """Serve ``reference``. A caller that goes away does not stop the swap halfway."""
        return await self._alone(reference)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What ``/info`` says beside the version."""
        notice = {} if self._located.notice is None else {"notice": self._located.notice}
        return {"reference": self._reference, **notice}

    async def describe(self) -> Mapping[str, Any]:
        """What is wanted, and what this process serves."""
        return {
            "wanted": {
                "reference": self._reference,
                "directory": str(self._located.directory),
                "notice": self._located.notice,
            },
            "replicas": {"local": self._service.info()["version"]},
        }

    async def note_served(self, reference: str, located: Located, version: str) -> None:
        """``version`` is served; what else the cache holds may be deleted."""
        await aside(self._source.remember, reference, located)
        if self._claim is not None:
            # Not waited for: what is deleted may be large.
            self._claiming = asyncio.create_task(aside(self._claim.serve, version))

    def _forget_notice(self) -> None:
        self._located = replace(self._located, notice=None)

    async def _take(self, reference: str, located: Located) -> SwapOutcome:
        return await self._alone(reference, located)

    async def _alone(self, reference: str, located: Located | None = None) -> SwapOutcome:
        if self._swapping is not None:
            raise SwapBusyError("another version is being loaded; wait until that is done")
        previous = str(self._service.info()["version"])
        self._swapping = asyncio.create_task(self._swap(reference, located, previous))
        return await asyncio.shield(self._swapping)

    async def _swap(self, reference: str, located: Located | None, previous: str) -> SwapOutcome:
        started = time.monotonic()
        try:
            located = located or await self._fetch(reference)
            version = await self._serve_version(located.directory, previous)
            await self.note_served(reference, located, version)
        except SwapBusyError:
            raise
        except (WinnowError, OSError) as error:
            raise SwapRefusedError(f"{reference!r:.80} cannot be served, and {previous} still is: {error}") from error
        finally:
            # A task that failed keeps all that was loaded for it.
            self._swapping = None
        self._reference, self._located = reference, located
        return SwapOutcome(version, previous, time.monotonic() - started)

    async def _fetch(self, reference: str) -> Located:
        located = await aside(self._source.fetch, reference)
        if located.notice is not None:
            raise DataError(located.notice)
        return located

    async def _serve_version(self, directory: Path, previous: str) -> str:
        wanted = read_manifest(directory).version
        if wanted == previous:
            return previous
        if self._claim is not None:
            await aside(self._claim.want, wanted)
        version = await self._service.prepare(directory)
        self._service.activate(version)
        return version


class _Described:
    """``service`` as the application's searcher; its ``info`` says what was asked for, too."""

    def __init__(self, service: RetrieverService, versions: LocalVersions) -> None:
        self.search, self.embed, self.readiness = service.search, service.embed, service.readiness
        self._service = service
        self._versions = versions

    def info(self) -> Mapping[str, Any]:
        return {**self._service.info(), **self._versions.facts}


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would end the process after the requests in work."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Take no more requests; the second time, give those in work up."""
        self.force_exit = self.should_exit
        self.should_exit = True


async def _serve(
    config: ServeConfig,
    access: LocalAccess,
    bound: socket.socket,
    reference: str,
    source: Source,
    claim: Claim | None,
    on_ready: Callable[[], None],
) -> None:
    located = await aside(source.fetch, reference)
    if claim is not None:
        claim.want(read_manifest(located.directory).version)
    metrics = PrometheusMetrics()
    service = RetrieverService(config, metrics, threads=config.replica_threads)
    versions = LocalVersions(service, reference=reference, located=located, source=source, claim=claim)
    build_engine = None if config.generator is None else partial(build_server_engine, config.generator)
    searcher = _Described(service, versions)
    app = build_app(searcher, config, access=access, versions=versions, metrics=metrics, build_engine=build_engine)
    await service.start(located.directory)
    await versions.note_served(reference, located, str(service.info()["version"]))
    background = [versions.follower.follow(every_s=config.follow_registry_s)]
    background += [] if claim is None else [claim.keep_renewing()]
    tasks = [asyncio.create_task(task) for task in background]
    try:
        await _answer_requests(app, config, bound, on_ready)
    finally:
        for task in tasks:
            task.cancel()
        await service.stop()


async def _answer_requests(app: Any, config: ServeConfig, bound: socket.socket, on_ready: Callable[[], None]) -> None:
    settings = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=config.drain_s,
    )
    server = _Server(settings)
    with _stopping_on_signals(server):
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            on_ready()
        await serving


@contextlib.contextmanager
def _stopping_on_signals(server: _Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}
    for number in watched:
        loop.add_signal_handler(number, server.stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            # This puts the system's own handler back, and not the one that was there.
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
