"""How long an endpoint takes from the command to the first answer, and to be gone again.

python benchmarks/time_to_ready.py [--starts 5]

One replica, 5,000 passages, the small real encoder. Ray is started once; then the endpoint starts and stops again and
again in this process.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import psutil
from rounds import spread
from served_versions import make_version
from serving_speed import PORT

from winnow.api.config import ServeConfig
from winnow.cluster.config import ClusterConfig
from winnow.cluster.runtime import ray_session
from winnow.cluster.serving import plan_serving, serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-ready-") as name:
        version = Path(name) / "version"
        make_version(version, num_passages=5000, prefix="p", seed=1)
        before = time.monotonic()
        with ray_session(ClusterConfig(object_store_mb=100)):
            print(f"Ray: {time.monotonic() - before:.1f} s")
            found = [start_and_stop(version, output=Path(name)) for _ in range(options.starts)]
    for label, values in zip(
        ("seconds to ready", "seconds to be gone", "CPU, replica"), zip(*found, strict=True), strict=True
    ):
        print(f"{label}: {spread(values, '.1f')}")
    print(f"load {os.getloadavg()[0]:.1f}")


def start_and_stop(version: Path, *, output: Path) -> tuple[float, float, float]:
    """Seconds to the first answer, seconds to the end, and CPU seconds of the replica until it answered."""
    began = time.monotonic()
    with serving(plan_serving(str(version), ServeConfig(port=PORT), output=output)):
        ready = time.monotonic()
        cpu = sum(_cpu_seconds(child) for child in psutil.Process().children(recursive=True))
    return ready - began, time.monotonic() - ready, cpu


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        is_replica = any("ray::ServeReplica" in part for part in process.cmdline()[:1])
        return sum(process.cpu_times()[:2]) if is_replica else 0.0
    except psutil.NoSuchProcess:
        return 0.0


if __name__ == "__main__":
    main()
