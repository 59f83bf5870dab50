"""One copy of the HTTP application on Ray Serve: encoder and index in this process, orders from ``control.py``.

One deployment, not two: a hop between encoder and index costs more than it saves.
"""

import asyncio
import contextlib
import ipaddress
import logging
import time
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError
from ray.serve._private import replica as serve_replica
from ray.serve.context import _get_global_client as get_global_client
from ray.util import get_node_ip_address

from winnow.api.app import build_app
from winnow.api.config import is_loopback
from winnow.api.keys import KeyRing
from winnow.api.protocol import EmbeddingAnswer, NotReadyError, Readiness, SearchAnswer, SearchOptions, SwapOutcome
from winnow.api.rates import LeasedRates
from winnow.api.request_ids import set_up_log
from winnow.cluster.control import ServingPlan, control_actor
from winnow.cluster.serve_metrics import RayMetrics
from winnow.engines import build_server_engine
from winnow.errors import ConfigError, DataError, WinnowError
from winnow.modeling.protocol import Side
from winnow.serving.obeying import ReplicaState
from winnow.serving.rollout import Orders, Target

_REPORT_EVERY_S = 1.0
_HUNG_AFTER_S = 60.0
_log = logging.getLogger("winnow.api")


@serve.deployment(name="retriever")
@serve.ingress()
class RetrieverReplica:
    """Implements ``Searcher``, ``Versions`` and ``Access`` of ``winnow.api.protocol`` for the application."""

    async def __init__(self, plan: ServingPlan) -> None:
        _listen_where_ray_listens()
        _check_keys(plan)
        set_up_log(requests=plan.config.log_requests)
        self._plan = plan
        self._name = uuid.uuid4().hex[:12]
        self._metrics = RayMetrics()
        # Only here: whoever deploys this class does not wait for torch.
        from winnow.serving.service import RetrieverService

        self._service = RetrieverService(plan.config, self._metrics, threads=plan.config.replica_threads)
        self._control = control_actor(plan)
        self._rates = LeasedRates(self._lease)
        self._keys: KeyRing | None = None
        target = await _remote(self._control.start.remote())
        await self._service.start(Path(target.directory))
        self._check_version(target, str(self._service.info()["version"]))
        self._state = ReplicaState(target)
        self._loading: asyncio.Task[None] | None = None
        await self._catch_up()
        self._reporting = asyncio.create_task(self._keep_reporting())

    def __serve_build_asgi_app__(self) -> FastAPI:
        generator = self._plan.config.generator
        return build_app(
            self,
            self._plan.config,
            access=self,
            versions=self,
            metrics=self._metrics,
            build_engine=None if generator is None else partial(build_server_engine, generator),
            behind_serve=True,
        )

    async def check_health(self) -> None:
        """For Serve, which replaces a replica whose searches hang, or that cannot load what all others serve."""
        if self._state.refusal is not None:
            raise RuntimeError(f"the wanted version cannot be loaded: {self._state.refusal}")
        readiness = self._service.readiness()
        if readiness.age_s is not None and readiness.age_s > _HUNG_AFTER_S:
            raise RuntimeError(f"no search has ended for {readiness.age_s:.0f} s: {readiness.detail}")

    # Searcher

    async def search(self, queries: Sequence[str], options: SearchOptions) -> SearchAnswer:
        return await self._service.search(queries, options)

    async def embed(self, texts: Sequence[str], side: Side, *, truncate: bool = True) -> EmbeddingAnswer:
        return await self._service.embed(texts, side, truncate=truncate)

    def readiness(self) -> Readiness:
        return self._service.readiness()

    def info(self) -> Mapping[str, Any]:
        served = self._state.served
        notice = {} if served.notice is None else {"notice": served.notice}
        return {**self._service.info(), "reference": served.reference, "replica": self._name, **notice}

    # Versions

    async def swap(self, reference: str) -> SwapOutcome:
        started, previous = time.monotonic(), str(self._service.info()["version"])
        replicas, version = await _remote(self._control.swap.remote(reference))
        return SwapOutcome(version, previous, time.monotonic() - started, replicas)

    async def describe(self) -> Mapping[str, Any]:
        return await _remote(self._control.describe.remote())

    # Access

    @property
    def keys(self) -> KeyRing | None:
        return self._keys

    async def take(self, key_id: str, per_minute: float) -> float:
        return await self._rates.take(key_id, per_minute)

    async def _lease(self, key_id: str, per_minute: float, amount: int) -> tuple[int, float]:
        return await self._control.lease.remote(key_id, per_minute, amount)

    async def _catch_up(self) -> None:
        """Returns when this replica serves what all are told to; a swap may have gone on while it loaded."""
        await self._report()
        while self._state.is_behind:
            if self._state.refusal is not None:
                raise DataError(self._state.refusal)
            await asyncio.sleep(_REPORT_EVERY_S / 10)
            await self._report()

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            # Without the actor a replica goes on with the version and the keys it has.
            try:
                await self._report()
            except ActorDiedError:
                with contextlib.suppress(RayError):
                    self._control = control_actor(self._plan)
            except (RayError, WinnowError) as error:
                _log.warning("no orders can be had (%s); this replica goes on as it is", type(error).__name__)

    async def _report(self) -> None:
        known = self._keys and self._keys.digest
        synced = await self._control.report.remote(self._name, self._state.report(), known)
        if synced.keys is not None:
            # Beside the event loop: thousands of keys take longer than a search.
            self._keys = await asyncio.to_thread(_read_keys, synced.keys)
        self._obey(synced.orders)

    def _obey(self, orders: Orders) -> None:
        actions = self._state.obey(orders)
        if actions.activate is not None:
            self._service.activate(actions.activate.version)
        if actions.discard:
            self._service.discard()
        if actions.load is not None:
            self._loading = asyncio.create_task(self._load_aside(actions.load))

    async def _load_aside(self, target: Target) -> None:
        try:
            self._check_version(target, await self._service.prepare(Path(target.directory)))
            self._state.loaded(target)
        except Exception as error:
            is_known = isinstance(error, WinnowError)
            _log.warning("a version could not be loaded: %s", error, exc_info=not is_known)
            self._service.discard()
            self._state.could_not_load(target, str(error) if is_known else f"{type(error).__name__}: {error}")

    def _check_version(self, target: Target, version: str) -> None:
        """Returns if what was loaded is what all replicas were told to load. Raises ``DataError``."""
        if version != target.version:
            raise DataError(
                f"{target.directory!r} held version {target.version} when it was chosen and holds {version} now; "
                f"serve {target.reference!r} again"
            )

    async def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._reporting.cancel()
            await self._control.leave.remote(self._name)
            await self._service.stop()


def _read_keys(text: str) -> KeyRing:
    """The ring in ``text``, with what is derived from it, which would else be made at the first request."""
    ring = KeyRing.from_json(text)
    _ = ring.digest, ring.find("")
    return ring


async def _remote(call: Awaitable[Any]) -> Any:
    """What the actor returns. Raises its own errors without the traceback that Ray puts into their messages."""
    try:
        return await call
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError:
        raise NotReadyError("the actor that orders the replicas is being restarted; try again") from None


def _check_keys(plan: ServingPlan) -> None:
    """Returns unless Serve listens beyond loopback and nobody is asked for a key; raises ``ConfigError`` then."""
    host = get_global_client().http_config.host
    if plan.config.keys is None and not is_loopback(host):
        raise ConfigError(
            f"Ray Serve listens on {host!r}, which other machines can reach, so `keys` must name a file of API keys; "
            f"make one with `winnow keys create`, or set http_options.host to 127.0.0.1"
        )


def _listen_where_ray_listens() -> None:
    """Keep this replica's internal port on loopback if Ray itself is on loopback.

    Serve 2.60 always binds that port to every interface, after the replica's constructor has run.
    """
    address = get_node_ip_address()
    if ipaddress.ip_address(address).is_loopback:
        serve_replica.add_port_to_grpc_server = lambda server, _: add_port_to_grpc_server(server, f"{address}:0")
