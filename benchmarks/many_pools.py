"""Does memory stay flat over many pools? Judges them with a scripted engine and prints memory as it goes.

python benchmarks/many_pools.py [--queries 100000]

The pool file is larger than the object store. Memory is PSS of the driver and of the engine's process.
"""

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import psutil
import scripted_runs as runs

import winnow.cluster  # noqa: F401  (sets Ray's switches before it is imported)
from winnow.cluster.annotating import ActorPool
from winnow.cluster.sink import EvidenceSink

STORE_MB = 100
ACTORS = ActorPool(num_cpus=1, queries_per_batch=32, batches_in_flight=2)


class Watch:
    """Memory of this process and of the engine's, beside how many queries are stored."""

    def __init__(self, sink: Path) -> None:
        self.rows: list[tuple[float, int, int, int]] = []
        self._sink, self._stop, self._started = sink, threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(5):
            me = psutil.Process()
            engines = [child for child in _raylet_workers() if "JudgeActor" in _name(child)]
            files = list(self._sink.glob("*.parquet"))
            seconds = time.monotonic() - self._started
            self.rows.append((seconds, len(files), _pss(me), sum(map(_pss, engines))))


def _raylet_workers() -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if "ray::" in _name(process)]


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _pss(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=100_000)
    options = parser.parse_args()
    import ray

    with tempfile.TemporaryDirectory(prefix="winnow-many-") as name:
        folder = Path(name)
        pools = runs.write_pools(folder / "pools.parquet", options.queries, padding=600)
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=STORE_MB * 2**20,
            include_dashboard=False,
            logging_level="error",
            runtime_env={"env_vars": {"PYTHONPATH": runs.PYTHONPATH}},
        )
        sink = EvidenceSink(folder / "sink")
        size = pools.stat().st_size / 2**20
        print(f"{options.queries:,} pools, {size:.0f} MiB in Parquet; object store {STORE_MB} MiB", flush=True)
        with Watch(sink.directory) as watch:
            started = time.monotonic()
            now = runs.judge(pools, sink, ACTORS)
            judged = time.monotonic() - started
            runs.publish(pools, sink, folder)
        ray.shutdown()
        print(f"judged {now.num_queries:,} in {judged:.0f} s, published after {time.monotonic() - started:.0f} s")
        _print(watch.rows)


def _print(rows: list[tuple[float, int, int, int]]) -> None:
    print("| s | files in the sink | driver MiB | engine process MiB |\n|---:|---:|---:|---:|")
    for seconds, files, driver, engine in rows[:: max(1, len(rows) // 12)]:
        print(f"| {seconds:.0f} | {files} | {driver / 2**20:.0f} | {engine / 2**20:.0f} |")
    driver, engine = (max(row[column] for row in rows) / 2**20 for column in (2, 3))
    print(f"peak: driver {driver:.0f} MiB, engine process {engine:.0f} MiB")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
