"""The HTTP application on Ray Serve: deployed, waited for, and gone again with every process it had."""

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from ray import serve
from ray.serve.schema import ApplicationStatus

from winnow.api.config import ServeConfig
from winnow.api.ports import check_port, is_listening
from winnow.client import WinnowClient
from winnow.cluster.control import ServingPlan, stop_control
from winnow.cluster.haproxy import Limits, check_haproxy, starting_haproxy
from winnow.cluster.replica import RetrieverReplica
from winnow.cluster.runtime import note_crowding, preflight
from winnow.errors import ConfigError, DataError, WinnowError
from winnow.machine import waiting_policy
from winnow.retrieval.keeping import keep_version
from winnow.tracking.fetching import RetrieverFetcher, retriever_cache
from winnow.tracking.store import tracking_uri

APPLICATION = "winnow"
_LOGGING = {"log_level": "WARNING", "enable_access_log": False}
_STOP_TIMEOUT_S = 30.0
_SLOW_CLIENTS = 10_000
"""Requests whose bodies are still arriving count for Serve, and must not keep others out."""


def plan_serving(reference: str, config: ServeConfig, *, output: Path, endpoint: str | None = None) -> ServingPlan:
    """What an endpoint of ``reference`` is made from; the versions that it serves are kept under ``output``.

    ``endpoint`` is a name that stays when it is deployed again; by default one that nothing else has.
    """
    name = endpoint or uuid.uuid4().hex[:12]
    return ServingPlan(reference, config, tracking_uri(output), retriever_cache(output), endpoint=name)


def retriever_application(plan: ServingPlan) -> serve.Application:
    """The endpoint of ``plan`` as a Ray Serve application, whose limits are announced to HAProxy."""
    Limits(plan.config.max_pending, plan.config.request_timeout_s).announce()
    return RetrieverReplica.options(**_scaling(plan.config), **_patience(plan.config)).bind(plan)


def _scaling(config: ServeConfig) -> dict[str, Any]:
    fewest, most = config.replica_range
    actor = {
        "num_cpus": config.replica_cpus,
        "num_gpus": config.num_gpus,
        "runtime_env": {"env_vars": waiting_policy()},
    }
    if fewest == most:
        return {"num_replicas": fewest, "ray_actor_options": actor}
    following = {
        "min_replicas": fewest,
        "max_replicas": most,
        "target_ongoing_requests": config.target_ongoing_requests,
    }
    return {"autoscaling_config": following, "ray_actor_options": actor}


def _patience(config: ServeConfig) -> dict[str, Any]:
    return {
        # The application itself refuses what is too much, as JSON; Serve passes everything on to it.
        "max_ongoing_requests": config.max_pending + _SLOW_CLIENTS,
        # A version that cannot be loaded fails the same way again.
        "max_constructor_retry_count": 1,
        "graceful_shutdown_timeout_s": config.drain_s,
        "graceful_shutdown_wait_loop_s": 0.5,
    }


@contextmanager
def serving(plan: ServingPlan) -> Iterator[str]:
    """The URL of an endpoint that answers; at the end of the block it is gone, with every process it had.

    Ray is initialised already. Raises ``ConfigError`` if the port is taken or Serve runs on this Ray already,
    ``IndexMismatchError`` if the version is damaged; nothing was started then.
    """
    config = plan.config
    keep_version(RetrieverFetcher(plan.tracking_uri, plan.cache).fetch(plan.reference).directory, plan.cache)
    check_port(config.host, config.port)
    if serve.status().proxies:
        raise ConfigError(
            "Ray Serve runs on this Ray already, and its address cannot be changed; "
            "deploy to it with `serve deploy serve/config.yaml`, or leave RAY_ADDRESS unset to get a local Ray"
        )
    bundle = {"CPU": config.replica_cpus, "GPU": config.num_gpus}
    preflight("serving", bundle, count=config.replica_range[0])
    fewest, threads = config.replica_range[0], config.replica_threads
    note_crowding("serving", processes=fewest, threads=threads, cpus=config.replica_cpus)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        with starting_haproxy():
            serve.start(
                proxy_location="HeadOnly",
                http_options={"host": config.host, "port": config.port},
                logging_config=_LOGGING,
            )
            url = _deploy(plan)
        yield url
    finally:
        serve.shutdown()
        stop_control(plan)
        _wait_until_gone(config)


def _deploy(plan: ServingPlan) -> str:
    config = plan.config
    deadline = time.monotonic() + config.start_timeout_s
    target = serve.RunTarget(retriever_application(plan), name=APPLICATION, logging_config=_LOGGING)
    serve.run_many([target], wait_for_applications_running=False)
    while (state := serve.status().applications[APPLICATION]).status is not ApplicationStatus.RUNNING:
        if state.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
            raise DataError(f"the retriever {plan.reference!r} could not be served: {_cause(state)}")
        _pause(deadline, f"the replica is still {state.status.value} {_cause(state)}", config)
    url = config.url
    with WinnowClient(url) as client:
        while not client.ready():
            _pause(deadline, f"{url}/ready does not answer", config)
    return url


def _pause(deadline: float, what: str, config: ServeConfig) -> None:
    check_haproxy()
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
    while (left := _serve_processes()) or is_listening(config.host, config.port):
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
