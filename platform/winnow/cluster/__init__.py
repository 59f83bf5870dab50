"""Glue to Ray: actor pools, durable sink, training workers, Serve deployments."""

import os
import sys
from pathlib import Path

from winnow.machine import most_open_files, share_cores

# Ray reads its switches when it is first imported, which the modules of this folder do.
_SWITCHES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Winnow shows its own progress bars, which know rows and failures.
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # What a worker prints reaches the driver already; Ray Train's patch shows it a second time.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Harmless lines: once a second while workers start without a dashboard; at every stop of Serve; at every start.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "Ray Train Controller actor state|ServeController.graceful_shutdown|Set ray log level",
    # An actor that asks for no GPU leaves the environment as it is.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_OWN_RAY = {
    # A Ray of our own listens on loopback only. Ray has one switch for that, made for other systems;
    # `_node_ip_address` is not enough, as Ray replaces 127.0.0.1 by the host's address.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Its C++ core calls ordinary events errors on the console. What fails still raises in Python.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Ray gives its workers the lowest priority, so that whatever else runs here would slow down an endpoint.
    "RAY_worker_niceness": "0",
    # Serve's replicas speak HTTP themselves, behind HAProxy: twice as many requests as through Serve's own proxy.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # ... which is kept on loopback, and ends with its Ray (haproxy.py).
    "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(sys.executable).parent / "winnow-haproxy"),
    # On a busy machine a proxy needs longer than Serve's 5 s; Serve would end it, and the start with it.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # HAProxy reserves 2.5 files for each connection that it may have, and does not start where it cannot. 4,096 is
    # Serve's own choice; who comes later waits until one is free.
    "RAY_SERVE_HAPROXY_MAXCONN": str(min(4096, int((most_open_files() - 64) / 2.5))),
    # A replica may close an idle connection in the moment in which HAProxy sends a request on it.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "1",
    # How long a replica that is to stop waits for balancers elsewhere to notice; ours is told at once.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
}


def named_cluster() -> str | None:
    """The cluster that ``RAY_ADDRESS`` names; ``local`` is Ray's word for none."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address


for _name, _value in (_SWITCHES if named_cluster() else _SWITCHES | _OWN_RAY).items():
    os.environ.setdefault(_name, _value)
# Ray's workers inherit it.
share_cores()
