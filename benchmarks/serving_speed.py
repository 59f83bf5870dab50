"""Searches per second through Ray Serve against the same application under uvicorn alone.

python benchmarks/serving_speed.py [--rounds 5] [--seconds 8]

Four ways to serve one retriever version (the small real encoder, 20,000 passages, flat index, query cache off, one
thread for encoding): on Ray Serve; the same with two replicas; alone under uvicorn, with the same batching; alone, one
query at a time. They take turns, each started for its turn and stopped after it, for what another leaves running would
cost the next one its time. The load comes from a process of its own, with 1 and with 32 clients.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rounds import print_table, ratios, spread
from served_versions import make_version

from winnow.client import WinnowClient

HERE = Path(__file__).parent
ALONE, ONE_BY_ONE = "uvicorn", "uvicorn, batch 1"
SERVE, SERVE_TWO = "Ray Serve", "Ray Serve, 2 replicas"
PORT = 8123
_URL = f"http://127.0.0.1:{PORT}"


@contextlib.contextmanager
def served(variant: str, version: Path, *, threads: int, runtime: str = "torch") -> Iterator[None]:
    """An endpoint that answers, in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--worker",
        variant,
        "--version-folder",
        str(version),
        "--threads",
        str(threads),
        "--runtime",
        runtime,
    ]
    with tempfile.TemporaryFile() as said:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        try:
            if not _is_ready(process):
                said.seek(0)
                raise SystemExit(f"{variant} did not become ready:\n{said.read().decode(errors='replace')[-4000:]}")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=90)


def load(*, clients: int, seconds: float) -> dict:
    """What the load generator saw."""
    command = [sys.executable, str(HERE / "http_load.py"), _URL, "--clients", str(clients), "--seconds", str(seconds)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def work(variant: str, version: Path, threads: int, runtime: str) -> None:
    """In a worker: serve until SIGTERM."""
    from winnow.api.config import ServeConfig

    # A request that alone fills the budget is a batch of its own.
    budget = {"max_batch_tokens": 16} if variant == ONE_BY_ONE else {}
    replicas = {"num_replicas": 2, "replica_cpus": 0.5} if variant == SERVE_TWO else {}
    config = ServeConfig(
        port=PORT, cache_queries=0, replica_threads=threads, encoder_runtime=runtime, **budget, **replicas
    )
    if variant in (ALONE, ONE_BY_ONE):
        from winnow.serving.standalone import serve_alone

        serve_alone(config, reference=str(version))
        return
    from winnow.cluster.config import ClusterConfig
    from winnow.cluster.runtime import ray_session
    from winnow.cluster.serving import plan_serving, serving

    with ray_session(ClusterConfig(object_store_mb=100)), serving(plan_serving(str(version), config, output=version)):
        signal.sigwait({signal.SIGTERM})


def _is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Waits up to 120 s; false at once if the process has ended."""
    deadline = time.monotonic() + 120
    with WinnowClient(_URL) as client:
        while time.monotonic() < deadline and process.poll() is None:
            if client.ready():
                return True
            time.sleep(0.2)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runtime", default="torch", help="what encodes queries: torch, onnx, onnx-int8")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--version-folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if options.worker in (SERVE, SERVE_TWO) else None
        work(options.worker, options.version_folder, options.threads, options.runtime)
        return
    with tempfile.TemporaryDirectory(prefix="winnow-serving-") as name:
        make_version(Path(name) / "version", num_passages=options.passages)
        report(measure(options, Path(name) / "version"))


def measure(options: argparse.Namespace, version: Path) -> dict[tuple[str, int], list[dict]]:
    """By variant and number of clients, what each round saw."""
    seen: dict[tuple[str, int], list[dict]] = {}
    for number in range(options.rounds):
        order = [ALONE, SERVE, ONE_BY_ONE, SERVE_TWO]
        for variant in order if number % 2 == 0 else reversed(order):
            with served(variant, version, threads=options.threads, runtime=options.runtime):
                load(clients=8, seconds=2)
                for clients in (1, 32):
                    seen.setdefault((variant, clients), []).append(load(clients=clients, seconds=options.seconds))
        said = ", ".join(
            f"{name} {clients}: {rounds[-1]['per_second']:.0f}/s" for (name, clients), rounds in seen.items()
        )
        print(f"round {number + 1}: {said}; load {os.getloadavg()[0]:.1f}", flush=True)
    return seen


def report(seen: dict[tuple[str, int], list[dict]]) -> None:
    """Tables of rates, times and ratios; every answer was 200, or the table says so."""
    rows = []
    for (variant, clients), rounds in seen.items():
        failed = sum(each["requests"] - each["statuses"].get("200", 0) for each in rounds)
        rates, medians, tails = ([each[key] for each in rounds] for key in ("per_second", "median_ms", "p95_ms"))
        rows.append(
            [variant, str(clients), spread(rates, ".0f"), spread(medians, ".1f"), spread(tails, ".1f"), str(failed)]
        )
    print_table(["served by", "clients", "requests/s", "median ms", "95 % ms", "failed"], rows)
    print()
    pairs = [(SERVE, 1, ALONE), (SERVE, 32, ALONE), (SERVE_TWO, 32, ALONE), (SERVE, 32, ONE_BY_ONE)]
    compared = [
        [f"{one} / {other}", str(clients), spread(ratios(*(
            [each["per_second"] for each in seen[name, clients]] for name in (one, other)
        )))]
        for one, clients, other in pairs
    ]  # fmt: skip
    print_table(["requests/s", "clients", "ratio"], compared)


if __name__ == "__main__":
    main()
