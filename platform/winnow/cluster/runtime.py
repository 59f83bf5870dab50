"""A Ray to run on: the one that is there, the cluster that is named, or a local one of our own."""

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._private.state import state

from winnow.cluster.config import ClusterConfig
from winnow.cluster.haproxy import LIMITS_FILE_VARIABLE
from winnow.errors import ConfigError

_UNBOUNDED = 10**6


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[None]:
    """Ray, initialised. What is already initialised is used as it is; a local one is shut down at the end.

    A cluster is joined when ``RAY_ADDRESS`` names one, as it does inside ``ray job submit``. A local Ray
    listens on loopback only, without a dashboard.
    """
    _quieten_ray()
    if ray.is_initialized():
        yield
    elif os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=True)
        yield
    else:
        with _local_ray(config):
            yield


@contextmanager
def _local_ray(config: ClusterConfig) -> Iterator[None]:
    # Unix sockets live in it, whose paths must stay under 107 bytes.
    scratch = tempfile.mkdtemp(prefix="winnow-ray-")
    _keep_haproxy_apart(Path(scratch))
    try:
        ray.init(
            address="local",
            num_cpus=config.num_cpus,
            object_store_memory=config.object_store_mb * 2**20,
            include_dashboard=False,
            log_to_driver=True,
            logging_level="warning",
            _temp_dir=scratch,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _keep_haproxy_apart(scratch: Path) -> None:
    """HAProxy's files and its control socket where only this user can reach them, its ports where nobody else is."""
    # Ray puts a node's id of 56 characters before the last name, and a socket's path must stay under 97.
    files = {"CONFIG_FILE_LOC": "haproxy.cfg", "SOCKET_PATH": "s", "SERVER_STATE_FILE": "server-state"}
    for name, file in files.items():
        os.environ[f"RAY_SERVE_HAPROXY_{name}"] = str(scratch / file)
    os.environ["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"] = str(scratch)
    os.environ[LIMITS_FILE_VARIABLE] = str(scratch / "limits.json")
    names = ("HAPROXY_STATS_PORT", "HAPROXY_METRICS_PORT", "FALLBACK_PROXY_HTTP_PORT")
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    for name, probe in zip(names, probes, strict=True):
        os.environ[f"RAY_SERVE_{name}"] = str(probe.getsockname()[1])
        probe.close()


def _quieten_ray() -> None:
    # What Ray logs of each execution would drown the counts of the step.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # That its progress bars are off, and that it asks for a token, is as we want it.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def preflight(what: str, bundle: Mapping[str, float], *, count: int = 1) -> None:
    """Returns if ``count`` bundles of resources can fit the cluster; raises ``ConfigError`` if they never will.

    Ray itself leaves an impossible request pending for ever, without a word.
    """
    nodes = [(node["Resources"], 1) for node in ray.nodes() if node["Alive"]]
    nodes = _node_groups() or nodes
    fitting = sum(number * _times(bundle, resources) for resources, number in nodes)
    if fitting < count:
        most = {name: max(resources.get(name, 0) for resources, _ in nodes) for name in bundle}
        raise ConfigError(
            f"{what} needs {count} x {dict(bundle)}, and this Ray can hold {fitting} of them "
            f"(at most {most} on one node); ask for less, or join a larger cluster with RAY_ADDRESS"
        )


def _times(bundle: Mapping[str, float], resources: Mapping[str, float]) -> int:
    needed = {name: amount for name, amount in bundle.items() if amount > 0}
    return min(int(resources.get(name, 0) / amount + 1e-9) for name, amount in needed.items())


def _node_groups() -> list[tuple[Mapping[str, float], int]]:
    """What an autoscaler may start: resources of a node, and how many; empty without an autoscaler."""
    config = state.get_cluster_config()  # the only place where Ray tells it to a driver
    groups = [] if config is None else config.node_group_configs
    return [(dict(group.resources), _UNBOUNDED if group.max_count < 0 else group.max_count) for group in groups]
