"""A Ray to run on: the one that is there, the cluster that is named, or a local one of our own."""

import atexit
import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import ray
from ray._common.network_utils import parse_address
from ray._private.services import canonicalize_bootstrap_address
from ray._private.state import state
from ray.exceptions import RayError

from winnow.cluster import named_cluster
from winnow.cluster.config import ClusterConfig
from winnow.cluster.haproxy import LIMITS_FILE_VARIABLE
from winnow.cluster.scratch import keep_compiled_code_where_it_can_run, make_scratch, place_object_store
from winnow.errors import ConfigError
from winnow.machine import allow_open_files, crowding, keeping_signals

_UNBOUNDED = 10**6
_OPEN_FILES = 1024
"""Fewest that a local Ray and its workers do with."""
_ANSWER_TIMEOUT_S = 10.0


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[None]:
    """Ray, initialised. What is already initialised is used as it is; a local one is shut down at the end.

    A cluster is joined when ``RAY_ADDRESS`` names one, as it does inside ``ray job submit``. A local Ray
    listens on loopback only, without a dashboard.
    """
    _quieten_ray()
    if ray.is_initialized():
        yield
    elif address := named_cluster():
        _join(address)
        yield
    else:
        with _local_ray(config):
            yield


@contextmanager
def _local_ray(config: ClusterConfig) -> Iterator[None]:
    allow_open_files(_OPEN_FILES)
    keep_compiled_code_where_it_can_run()
    scratch = make_scratch()
    remove_scratch = partial(shutil.rmtree, scratch, ignore_errors=True)
    # Once more after Ray's own hooks, which end the processes of a start that failed; they write until then.
    atexit.register(remove_scratch)
    _keep_haproxy_apart(Path(scratch))
    try:
        store = place_object_store(config.object_store_mb, scratch)
        with keeping_signals(), _translated("a local Ray could not be started"):
            ray.init(
                address="local",
                num_cpus=config.num_cpus,
                object_store_memory=config.object_store_mb * 2**20,
                include_dashboard=False,
                log_to_driver=True,
                logging_level="warning",
                _temp_dir=scratch,
                _plasma_directory=store,
            )
        yield
    finally:
        ray.shutdown()
        remove_scratch()


def _join(address: str) -> None:
    """Join the cluster at ``address``. Ray itself would wait minutes for one that is not there."""
    way_out = "start one (`ray start --head`), or unset RAY_ADDRESS to get a local Ray"
    if "://" in address:
        what = (
            "is of the job API" if address.startswith("http") else "is of Ray Client, which has not all that is needed"
        )
        raise ConfigError(
            f"RAY_ADDRESS={address!r} {what}; submit the command (`ray job submit`, docs/cluster.md), "
            f"give host:port of the head, such as 127.0.0.1:6379, or unset RAY_ADDRESS to get a local Ray"
        )
    with _translated(f"no Ray could be joined at RAY_ADDRESS={address!r}", way_out=way_out):
        host, port = _host_and_port(address)
        socket.create_connection((host, int(port)), timeout=_ANSWER_TIMEOUT_S).close()
        with keeping_signals():
            ray.init(address=address, log_to_driver=True)


def _host_and_port(address: str) -> tuple[str, str]:
    found = parse_address(canonicalize_bootstrap_address("auto") or "" if address == "auto" else address)
    if found is None:
        raise ValueError("expected host:port, or auto for the Ray of this machine")
    return found


@contextmanager
def _translated(what: str, *, way_out: str = "docs/cluster.md has what it needs of a machine") -> Iterator[None]:
    """``ConfigError`` for whatever Ray finds wrong with the machine or the address while it starts."""
    try:
        yield
    except Exception as error:
        # Ray raises Exception itself for a process that does not come up.
        if type(error) is not Exception and not isinstance(error, OSError | RuntimeError | ValueError | RayError):
            raise
        first = str(error).strip().partition("\n")[0][:300]
        raise ConfigError(f"{what} ({type(error).__name__}: {first}); {way_out}") from error


def _keep_haproxy_apart(scratch: Path) -> None:
    """HAProxy's files and its control socket where only this user can reach them, its ports where nobody else is."""
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


def note_crowding(what: str, *, processes: int, threads: int, cpus: float) -> None:
    """Print a line if ``processes`` of ``threads`` each cannot run at once; a cluster's nodes are not looked at.

    Each reserves ``cpus``: Ray starts no more than it has room for.
    """
    if named_cluster():
        return
    startable = max(1, int(ray.cluster_resources().get("CPU", 0) / cpus)) if cpus else processes
    cores = len(os.sched_getaffinity(0))
    note = crowding(what, processes=min(processes, startable), threads=threads, cores=cores)
    if note is not None:
        print(note, file=sys.stderr, flush=True)


def _times(bundle: Mapping[str, float], resources: Mapping[str, float]) -> int:
    needed = {name: amount for name, amount in bundle.items() if amount > 0}
    return min(int(resources.get(name, 0) / amount + 1e-9) for name, amount in needed.items())


def _node_groups() -> list[tuple[Mapping[str, float], int]]:
    """What an autoscaler may start: resources of a node, and how many; empty without an autoscaler."""
    config = state.get_cluster_config()  # the only place where Ray tells it to a driver
    groups = [] if config is None else config.node_group_configs
    return [(dict(group.resources), _UNBOUNDED if group.max_count < 0 else group.max_count) for group in groups]
