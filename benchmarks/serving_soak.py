"""Minutes of open-loop load on an endpoint: no error below its limit, only 429 and 503 above it, memory flat.

python benchmarks/serving_soak.py [--minutes 20] [--overload 3]

A quarter of the time each: half of what the endpoint can do (measured first), then several times of it, then half
again, and half with a key that has a limit of its own. On a small machine the load generator competes for the cores:
what the endpoint cannot even refuse shows as connections that fail. Memory is the PSS of all processes of the endpoint,
forty times in all.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from http_load import __file__ as load_script
from rounds import print_table
from served_versions import make_version
from serving_speed import PORT

from winnow.api.keys import create_key
from winnow.client import WinnowClient

URL = f"http://127.0.0.1:{PORT}"
_LIMITED_PER_MINUTE = 600


def run_load(*arguments: str) -> dict:
    import json

    done = subprocess.run([sys.executable, load_script, URL, *arguments], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


class Memory:
    """PSS of a process tree, sampled in a thread."""

    def __init__(self, pid: int, every_s: float) -> None:
        self.samples_mib: list[float] = []
        self._pid = pid
        self._every_s = every_s
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while psutil.pid_exists(self._pid):
            self.samples_mib.append(tree_pss_mib(self._pid))
            time.sleep(self._every_s)


def tree_pss_mib(pid: int) -> float:
    """Memory of a process and all its descendants; what they share is counted once."""
    root = psutil.Process(pid)
    return sum(map(_pss_mib, [root, *root.children(recursive=True)]))


def _pss_mib(process: psutil.Process) -> float:
    try:
        return process.memory_full_info().pss / 2**20
    except psutil.Error:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--overload", type=float, default=3, help="times what the endpoint can do")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "KEYS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        work(*map(Path, options.worker))
        return
    with tempfile.TemporaryDirectory(prefix="winnow-soak-") as name:
        soak(Path(name), options.minutes * 60, overload=options.overload)


def work(version: Path, keys: Path) -> None:
    """In a worker: serve until SIGTERM."""
    from winnow.api.config import ServeConfig
    from winnow.cluster.config import ClusterConfig
    from winnow.cluster.runtime import ray_session
    from winnow.cluster.serving import plan_serving, serving

    config = ServeConfig(port=PORT, cache_queries=0, keys=keys)
    with ray_session(ClusterConfig(object_store_mb=100)), serving(plan_serving(str(version), config, output=version)):
        signal.sigwait({signal.SIGTERM})


def soak(folder: Path, seconds: float, *, overload: float) -> None:
    make_version(folder / "version", num_passages=5_000)
    free, limited = (
        create_key(folder / "keys.json", name=name, scopes=("search",), rate_per_minute=rate)
        for name, rate in (("free", None), ("limited", _LIMITED_PER_MINUTE))
    )
    command = [sys.executable, __file__, "--worker", str(folder / "version"), str(folder / "keys.json")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with WinnowClient(URL, api_key=free) as client:
            while not client.ready():
                time.sleep(0.5)
        most = run_load("--clients", "32", "--seconds", "10", "--key", free)["per_second"]
        print(f"32 clients in a closed loop: {most:.0f} requests/s; load {os.getloadavg()[0]:.1f}", flush=True)
        memory = Memory(process.pid, every_s=max(5.0, seconds / 40))
        rows = []
        phases = [
            ("half", 0.5, free),
            (f"{overload:g} times", overload, free),
            ("half", 0.5, free),
            ("half, limited key", 0.5, limited),
        ]
        for name, share, key in phases:
            seen = run_load("--rate", str(most * share), "--seconds", str(seconds / len(phases)), "--key", key)
            rows.append([
                name, f"{most * share:.0f}/s", f"{seen['requests']:,}",
                ", ".join(f"{status}: {count:,}" for status, count in sorted(seen["statuses"].items())),
                str(seen["without_retry_after"]), f"{seen['median_ms']:.0f}", f"{seen['p99_ms']:.0f}",
                f"{memory.samples_mib[-1]:.0f}",
            ])  # fmt: skip
            print(rows[-1], flush=True)
        print_table(
            ["load", "rate", "requests", "answers", "without Retry-After", "median ms", "99 % ms", "PSS MiB"], rows
        )
        print("PSS MiB over time: " + " ".join(f"{sample:.0f}" for sample in memory.samples_mib))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=90)


if __name__ == "__main__":
    main()
