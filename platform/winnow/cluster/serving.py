"""The HTTP application on Ray Serve: encoder and index together in each replica, queries in dynamic batches.

One deployment, not two: a hop between encoder and index costs more than it saves. Serve's HAProxy mode is
faster but listens on every network interface, so its own proxy is used here.
"""

import asyncio
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
from fastapi import FastAPI
from ray import serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica as serve_replica
from ray.serve.schema import ApplicationStatus
from ray.util import get_node_ip_address

from winnow.api.app import build_app
from winnow.api.config import ApiConfig, ServeConfig
from winnow.api.models import SearchAnswer
from winnow.client import WinnowClient
from winnow.cluster.runtime import preflight
from winnow.errors import ConfigError, DataError, WinnowError
from winnow.records import ScoredPassage
from winnow.retrieval.retriever import load_retriever
from winnow.retrieval.version import check_files, read_manifest

APPLICATION = "winnow"
_LOGGING = {"log_level": "WARNING", "enable_access_log": False}
_STOP_TIMEOUT_S = 30.0

_Request = tuple[list[str], int]
"""Queries and k of one HTTP request."""


@serve.deployment(name="retriever")
@serve.ingress()
class RetrieverReplica:
    """One retriever version in memory, behind the HTTP application. Implements ``winnow.api.models.Searcher``."""

    def __init__(self, directory: str, config: ApiConfig) -> None:
        _listen_where_ray_listens()
        self._retriever = load_retriever(Path(directory))
        self._config = config
        self._batched = serve.batch(
            max_batch_size=config.max_batch_queries,
            batch_wait_timeout_s=config.batch_wait_ms / 1000,
            batch_size_fn=_num_queries,
        )(self._answer)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_app(self, self._config)

    async def search(self, queries: Sequence[str], k: int) -> SearchAnswer:
        return await self._batched((list(queries), k))

    def info(self) -> Mapping[str, Any]:
        return self._retriever.info()

    async def _answer(self, requests: list[_Request]) -> list[SearchAnswer]:
        # In a thread, so that the next requests are read and checked while this batch is encoded.
        return await asyncio.to_thread(self._answer_together, requests)

    def _answer_together(self, requests: list[_Request]) -> list[SearchAnswer]:
        queries = [query for asked, _ in requests for query in asked]
        found = iter(self._retriever.search(queries, max(k for _, k in requests)))
        return [SearchAnswer(self._retriever.version, _take(found, len(asked), k)) for asked, k in requests]


def _listen_where_ray_listens() -> None:
    """Keep this replica's internal port on loopback if Ray itself is on loopback.

    Serve 2.60 always binds that port to every interface, after the replica's constructor has run.
    """
    address = get_node_ip_address()
    if ipaddress.ip_address(address).is_loopback:
        serve_replica.add_port_to_grpc_server = lambda server, _: add_port_to_grpc_server(server, f"{address}:0")


def _num_queries(requests: list[_Request]) -> int:
    return sum(len(queries) for queries, _ in requests)


def _take(found: Iterator[list[ScoredPassage]], count: int, k: int) -> list[list[ScoredPassage]]:
    return [next(found)[:k] for _ in range(count)]


def retriever_application(
    directory: Path, config: ApiConfig, *, num_replicas: int = 1, replica_cpus: float = 1
) -> serve.Application:
    """The retriever version in ``directory`` as a Ray Serve application."""
    deployment = RetrieverReplica.options(
        num_replicas=num_replicas,
        ray_actor_options={"num_cpus": replica_cpus},
        # The application itself refuses what is too much, as JSON; Serve passes everything on to it.
        max_ongoing_requests=2 * config.max_pending,
        # A version that cannot be loaded fails the same way again.
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=5,
        graceful_shutdown_wait_loop_s=0.5,
    )
    return deployment.bind(str(directory.resolve()), config)


@contextmanager
def serving(directory: Path, config: ServeConfig) -> Iterator[str]:
    """The URL of an endpoint that answers; at the end of the block it is gone, with every process it had.

    Ray is initialised already. Raises ``ConfigError`` if the port is taken or Serve runs on this Ray already,
    ``IndexMismatchError`` if the version is damaged; nothing was started then.
    """
    check_files(directory, read_manifest(directory))
    check_port(config.host, config.port)
    if serve.status().proxies:
        raise ConfigError(
            "Ray Serve runs on this Ray already, and its address cannot be changed; "
            "deploy to it with `serve deploy serve/config.yaml`, or leave RAY_ADDRESS unset to get a local Ray"
        )
    preflight("serving", {"CPU": config.replica_cpus}, count=config.num_replicas)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": config.host, "port": config.port},
            logging_config=_LOGGING,
        )
        url = _deploy(directory, config)
        yield url
    finally:
        serve.shutdown()
        _wait_until_gone(config)


def check_port(host: str, port: int) -> None:
    """Returns if ``port`` is free on ``host``; raises ``ConfigError`` if it is not."""
    with closing(socket.socket(_family(host))) as probe:
        # A port whose last connections are still closing is free to a server, as for Ray's own socket.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} on {host} cannot be used ({os.strerror(error.errno or 0)}); "
                f"stop what listens there, or choose another with --set serve.port={_free_port(host)}"
            ) from error


def endpoint_url(config: ServeConfig) -> str:
    """Where an endpoint of ``config`` answers."""
    return f"http://[{config.host}]:{config.port}" if ":" in config.host else f"http://{config.host}:{config.port}"


def _deploy(directory: Path, config: ServeConfig) -> str:
    deadline = time.monotonic() + config.start_timeout_s
    application = retriever_application(
        directory, config, num_replicas=config.num_replicas, replica_cpus=config.replica_cpus
    )
    target = serve.RunTarget(application, name=APPLICATION, logging_config=_LOGGING)
    serve.run_many([target], wait_for_applications_running=False)
    while (state := serve.status().applications[APPLICATION]).status is not ApplicationStatus.RUNNING:
        if state.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
            raise DataError(f"the retriever in {str(directory)!r} could not be served: {_cause(state)}")
        _pause(deadline, f"the replica is still {state.status.value} {_cause(state)}", config)
    url = endpoint_url(config)
    with WinnowClient(url) as client:
        while not client.health():
            _pause(deadline, f"{url}/health does not answer", config)
    return url


def _pause(deadline: float, what: str, config: ServeConfig) -> None:
    if time.monotonic() > deadline:
        raise WinnowError(
            f"not ready {config.start_timeout_s:g} s after the start: {what}; "
            f"raise serve.start_timeout_s on a slow machine"
        )
    time.sleep(0.2)


def _cause(state: Any) -> str:
    """The last line of what Serve says, which is the error itself; a traceback is above it."""
    messages = [deployment.message for deployment in state.deployments.values()] + [state.message]
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if "Error: " in line]
    return (errors or lines or ["no reason given"])[-1]


def _wait_until_gone(config: ServeConfig) -> None:
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while (left := _serve_processes()) or _is_listening(config):
        if time.monotonic() > deadline:
            raise WinnowError(
                f"{_STOP_TIMEOUT_S:g} s after the stop, port {config.port} or the processes {left} are still there; "
                f"end them with kill"
            )
        time.sleep(0.1)


def _serve_processes() -> list[int]:
    """Serve's controller, proxies and replicas below this process; a joined cluster's are not ours to see."""
    return [child.pid for child in psutil.Process().children(recursive=True) if _belongs_to_serve(child)]


def _belongs_to_serve(process: psutil.Process) -> bool:
    try:
        title = process.cmdline()[:1]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return any(part in name for name in title for part in ("ray::Serve", "ray::Proxy", "haproxy"))


def _is_listening(config: ServeConfig) -> bool:
    with closing(socket.socket(_family(config.host))) as probe:
        probe.settimeout(1)
        return probe.connect_ex((config.host, config.port)) == 0


def _free_port(host: str) -> int:
    with closing(socket.socket(_family(host))) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
