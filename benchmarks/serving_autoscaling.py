"""Replicas follow the load: how many there are as time goes on, and what callers see of their coming and going.

python benchmarks/serving_autoscaling.py [--most 2]

One client, then 32, then one again, each for --seconds. Serve waits ten minutes before it takes a replica away, here
20 s.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from http_load import __file__ as load_script
from rounds import print_table
from served_versions import make_version
from serving_speed import PORT

from winnow.api.keys import create_key
from winnow.client import ServiceError, WinnowClient

URL = f"http://127.0.0.1:{PORT}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=2, help="replicas at most")
    parser.add_argument("--seconds", type=float, default=100, help="how long each of the three loads goes on")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "KEYS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        work(*map(Path, options.worker), most=options.most)
        return
    with tempfile.TemporaryDirectory(prefix="winnow-scaling-") as name:
        measure(Path(name), options)


def work(version: Path, keys: Path, *, most: int) -> None:
    """In a worker: serve until SIGTERM."""
    from winnow.api.config import ServeConfig
    from winnow.cluster import serving as room
    from winnow.cluster.config import ClusterConfig
    from winnow.cluster.runtime import ray_session

    usual = room._scaling

    def impatient(config: ServeConfig) -> dict:
        settings = usual(config)
        delays = {"upscale_delay_s": 5, "downscale_delay_s": 20}
        return {**settings, "autoscaling_config": {**settings["autoscaling_config"], **delays}}

    room._scaling = impatient
    config = ServeConfig(port=PORT, cache_queries=0, keys=keys, num_replicas=(1, most), replica_cpus=0.5)
    plan = room.plan_serving(str(version), config, output=version)
    with ray_session(ClusterConfig(object_store_mb=100)), room.serving(plan):
        signal.sigwait({signal.SIGTERM})


class Replicas:
    """How many replicas report, noted whenever it changes."""

    def __init__(self, key: str) -> None:
        self.changes: list[tuple[float, int]] = []
        self._client = WinnowClient(URL, api_key=key)
        self._started = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                count = len(self._client.versions()["replicas"])
            except ServiceError:  # the endpoint is gone
                return
            if not self.changes or self.changes[-1][1] != count:
                self.changes.append((time.monotonic() - self._started, count))
                print(f"{self.changes[-1][0]:.0f} s: {count} replicas", flush=True)
            time.sleep(0.5)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Print replicas over time, and the answers to each load."""
    make_version(folder / "version", num_passages=5_000)
    key = create_key(folder / "keys.json", name="all", scopes=("search", "admin"))
    command = [sys.executable, __file__, "--most", str(options.most)]
    command += ["--worker", str(folder / "version"), str(folder / "keys.json")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with WinnowClient(URL, api_key=key) as client:
            while not client.ready():
                time.sleep(0.5)
        watched = Replicas(key)
        rows = [[clients, *ask(clients, key, options.seconds)] for clients in ("1", "32", "1")]
        print_table(["clients", "requests", "answers", "requests/s", "median ms", "99 % ms"], rows)
        print("replicas: " + ", ".join(f"{count} from {second:.0f} s" for second, count in watched.changes))
        print(f"load {os.getloadavg()[0]:.1f}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=90)


def ask(clients: str, key: str, seconds: float) -> list[str]:
    """What so many clients in a closed loop got."""
    command = [sys.executable, load_script, URL, "--clients", clients, "--seconds", str(seconds), "--key", key]
    seen = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    answers = ", ".join(f"{status}: {count:,}" for status, count in sorted(seen["statuses"].items()))
    return [f"{seen['requests']:,}", answers, *(f"{seen[name]:.0f}" for name in ("per_second", "median_ms", "p99_ms"))]


if __name__ == "__main__":
    main()
