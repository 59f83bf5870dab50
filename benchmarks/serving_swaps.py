"""Swaps and rollbacks under load: no failed request, every answer of one version, a broken version refused.

python benchmarks/serving_swaps.py [--swaps 10] [--replicas 2]

Two versions whose passages have different ids, so that an answer that mixed them would show. Load: 8 clients. While
each swap goes on, another caller asks for the version before, a tenth of a second later each time; he is answered 503
until the swap is decided. What answers a second after him is what he asked for, from every replica.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from http_load import __file__ as load_script
from rounds import spread
from served_versions import make_version
from serving_soak import tree_pss_mib
from serving_speed import PORT

from winnow.api.keys import create_key
from winnow.client import ServiceError, WinnowClient

URL = f"http://127.0.0.1:{PORT}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "KEYS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        work(*map(Path, options.worker), replicas=options.replicas)
        return
    with tempfile.TemporaryDirectory(prefix="winnow-swaps-") as name:
        measure(Path(name), options)


def work(version: Path, keys: Path, *, replicas: int) -> None:
    """In a worker: serve until SIGTERM."""
    from winnow.api.config import ServeConfig
    from winnow.cluster.config import ClusterConfig
    from winnow.cluster.runtime import ray_session
    from winnow.cluster.serving import plan_serving, serving

    config = ServeConfig(port=PORT, keys=keys, num_replicas=replicas, replica_cpus=0.5)
    with ray_session(ClusterConfig(object_store_mb=100)), serving(plan_serving(str(version), config, output=version)):
        signal.sigwait({signal.SIGTERM})


def measure(folder: Path, options: argparse.Namespace) -> None:
    first, second, broken = (folder / name for name in ("first", "second", "broken"))
    before = make_version(first, num_passages=5000, prefix="a", seed=1)
    marks = [f"{before}=a", f"{make_version(second, num_passages=5000, prefix='b', seed=2)}=b"]
    shutil.copytree(second, broken)
    index = next((broken / "index").glob("*.faiss"))
    index.write_bytes(index.read_bytes()[:-1])
    key = create_key(folder / "keys.json", name="admin", scopes=("admin",))
    arguments = ["--replicas", str(options.replicas), "--worker", str(first), str(folder / "keys.json")]
    server = subprocess.Popen(
        [sys.executable, __file__, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with WinnowClient(URL, api_key=key, timeout_s=120) as client:
            while not client.ready():
                time.sleep(0.5)
            seconds = options.swaps * 16 + 20
            shape = ["--clients", "8", "--seconds", str(seconds), "--key", key, "--marks", *marks]
            load = subprocess.Popen([sys.executable, load_script, URL, *shape], stdout=subprocess.PIPE)
            swaps, held_mib, rolled_back = [], [], []
            for number in range(options.swaps):
                with ThreadPoolExecutor() as pool:
                    back = pool.submit(_roll_back, key, first, before, after_s=(number + 1) / 10)
                    swaps.append(client.swap(str(second)))
                    rolled_back.append(back.result())
                held_mib.append(f"{tree_pss_mib(server.pid):.0f}")
            refusals = [_refusal(client, path) for path in (broken, folder / "nowhere")]
            print(
                f"seconds per swap: {spread([swap.seconds for swap in swaps], '.1f')} on {swaps[0].replicas} replicas"
            )
            print(f"rollbacks, 503s before each, and what answered after it: {rolled_back}")
            print(f"PSS of all processes after each swap, MiB: {' '.join(held_mib)}")
            print(f"refused: {refusals}")
            seen = json.loads(load.communicate()[0])
        print(f"{seen['requests']:,} requests, {seen['statuses']}, by version {seen['versions']}")
        print(f"answers that mixed versions: {seen['mixed']}; load {os.getloadavg()[0]:.1f}")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=90)


def _roll_back(key: str, path: Path, version: str, *, after_s: float) -> tuple[str, int]:
    """What came of asking for ``path`` until it is not refused because of another swap."""
    time.sleep(after_s)
    with WinnowClient(URL, api_key=key, timeout_s=120) as client:
        num_busy = 0
        while (refusal := _refusal(client, path)) == "503 overloaded":
            num_busy += 1
            time.sleep(0.05)
        time.sleep(1)
        answers = {client.search(["what is this?"]).version for _ in range(40)}
    outcome = "all of it" if answers == {version} else f"{answers}, expected {version}"
    return outcome if refusal == "not refused" else refusal, num_busy


def _refusal(client: WinnowClient, path: Path) -> str:
    try:
        client.swap(str(path))
    except ServiceError as error:
        return f"{error.status} {error.type}"
    return "not refused"


if __name__ == "__main__":
    main()
