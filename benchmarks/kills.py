"""Kill judging again and again; the labels must be those of an undisturbed run, byte for byte.

python benchmarks/kills.py [--actors 160] [--drivers 30] [--nodes 10] [--queries 10000]

A cluster of two nodes on this machine, a scripted engine that takes half a second per query. Long runs are killed at
random (seeded) moments: actor processes, the driver, whole nodes. Printed: queries lost, judged twice in the labels,
judged again per kill against what was in flight, processes that outlived their driver. Linux; about 20 minutes.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import scripted_runs as runs

import winnow.cluster  # noqa: F401  (sets Ray's switches before it is imported)
from winnow.cluster.annotating import ActorPool
from winnow.cluster.sink import EvidenceSink
from winnow.judging.build import build_judge
from winnow.judging.rows import pools_of

ACTORS = ActorPool(least=3, most=3, num_cpus=1, queries_per_batch=8, batches_in_flight=2)
IN_FLIGHT = ACTORS.queries_per_batch * ACTORS.batches_in_flight
PAUSE_S = 0.5


class Trial:
    """One sink, one log, and the driver process that works on them."""

    def __init__(self, address: str, folder: Path, pools: Path) -> None:
        self.address, self.folder, self.pools = address, folder, pools
        self.log, self.sink = folder / "log", EvidenceSink(folder / "sink")
        self.log.touch()
        self.start()

    def start(self) -> None:
        command = [sys.executable, __file__, "--drive", self.address, str(self.pools), str(self.folder)]
        self.driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(self.folder / "stderr").open("a"))

    def is_done(self) -> bool:
        return self.driver.poll() is not None

    def engines(self) -> list[int]:
        """Processes that hold an engine, the latest first, as far as they live."""
        pids = dict.fromkeys(line.split("\t")[0] for line in reversed(self.log.read_text().splitlines()))
        return [int(pid) for pid in list(pids)[:20] if psutil.pid_exists(int(pid))]

    def progress(self) -> int:
        return self.log.stat().st_size

    def wait_for_progress(self, size: int) -> None:
        """Return when the log has grown beyond ``size``, or the driver is done."""
        while self.progress() <= size and not self.is_done():
            time.sleep(0.05)


def drive(address: str, pools: str, folder: str) -> None:
    """The driver: what a user's command does, until it ends or is killed."""
    import ray

    environment = {"env_vars": {"PYTHONPATH": runs.PYTHONPATH}}
    ray.init(address=address, log_to_driver=False, logging_level="error", runtime_env=environment)
    log = Path(folder) / "log"
    runs.judge(Path(pools), EvidenceSink(Path(folder) / "sink"), ACTORS, log=log, pause_s=PAUSE_S)


def kill_actors(trial: Trial, count: int, draw: random.Random) -> int:
    """Kill the process of a random engine, ``count`` times, while the driver goes on."""
    killed = 0
    while killed < count and not trial.is_done():
        time.sleep(draw.uniform(0.2, 2.0))
        if engines := trial.engines():
            os.kill(draw.choice(engines), signal.SIGKILL)
            killed += 1
    return killed


def kill_drivers(trial: Trial, count: int, draw: random.Random) -> tuple[int, int]:
    """Kill the driver and start it again, ``count`` times; also how many engine processes outlived it by 20 s."""
    killed = orphans = 0
    while killed < count and not trial.is_done():
        size = trial.progress()
        trial.wait_for_progress(size)
        time.sleep(draw.uniform(0.0, 2.0))
        if trial.is_done():
            break
        engines = trial.engines()
        trial.driver.kill()
        trial.driver.wait()
        killed += 1
        deadline = time.monotonic() + 20
        while any(map(psutil.pid_exists, engines)) and time.monotonic() < deadline:
            time.sleep(0.1)
        orphans += sum(map(psutil.pid_exists, engines))
        trial.start()
    return killed, orphans


def kill_nodes(trial: Trial, count: int, draw: random.Random, replace_node: Callable[[], None]) -> int:
    """Take the node with the actors away without a word, and start another one, ``count`` times."""
    killed = 0
    while killed < count and not trial.is_done():
        trial.wait_for_progress(trial.progress())
        time.sleep(draw.uniform(0.5, 3.0))
        if trial.is_done():
            break
        replace_node()
        killed += 1
    return killed


def judged_again(log: Path) -> int:
    """Queries that were handed to an engine more than once, counted once for each further time."""
    processes: dict[str, set[str]] = defaultdict(set)
    for line in log.read_text().splitlines():
        pid, query = line.split("\t")
        processes[query].add(pid)
    return sum(len(pids) - 1 for pids in processes.values())


def calm_labels(pools: Path, folder: Path) -> list[bytes]:
    """The labels of a run that nothing disturbs, without Ray."""
    judge, sink = build_judge(runs.CONFIG, folder, runs.scripted), EvidenceSink(folder / "sink")

    async def judge_all(batch):
        return list(await asyncio.gather(*(judge.judge(pool) for pool in batch)))

    for batch in pq.ParquetFile(pools).iter_batches(1000):
        sink.write(asyncio.run(judge_all(pools_of(runs.pa.Table.from_batches([batch])))))
    return runs.publish(pools, sink, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"actors": 160, "drivers": 30, "nodes": 10, "queries": 10_000, "seed": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-kills-") as name:
        return _run(Path(name), options)


def _run(folder: Path, options: argparse.Namespace) -> int:
    from ray.cluster_utils import Cluster

    for part in ("calm", "killed"):
        (folder / part).mkdir()
    pools = runs.write_pools(folder / "pools.parquet", options.queries)
    calm = calm_labels(pools, folder / "calm")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 200 * 2**20})
    node = {"num_cpus": 4, "object_store_memory": 200 * 2**20}
    workers = [cluster.add_node(**node)]

    def replace_node() -> None:
        cluster.remove_node(workers.pop(), allow_graceful=False)
        workers.append(cluster.add_node(**node))

    draw, started = random.Random(options.seed), time.monotonic()
    trial = Trial(cluster.address, folder / "killed", pools)
    try:
        trial.wait_for_progress(0)
        marks = [judged_again(trial.log)]
        nodes = kill_nodes(trial, options.nodes, draw, replace_node)
        marks.append(judged_again(trial.log))
        drivers, orphans = kill_drivers(trial, options.drivers, draw)
        marks.append(judged_again(trial.log))
        actors = kill_actors(trial, options.actors, draw)
        code = trial.driver.wait()
        marks.append(judged_again(trial.log))
        blamed = sum(status != "ok" for status in trial.sink.statuses().values())
        if blamed and code == 0:
            trial.start()  # the same command again retries engine errors
            code = trial.driver.wait()
    finally:
        if not trial.is_done():
            trial.driver.kill()
        cluster.shutdown()
    if code:
        print("the last driver said:", *(folder / "killed" / "stderr").read_text().splitlines()[-15:], sep="\n")
    killed = runs.publish(pools, trial.sink, folder / "killed")
    rows = pq.read_table(folder / "killed" / "judged_queries.parquet")
    print(f"{options.queries:,} queries, {time.monotonic() - started:.0f} s, last driver's exit code {code}")
    for what, count, before, after, actors_hit in [
        ("node", nodes, *marks[0:2], ACTORS.most),
        ("driver", drivers, *marks[1:3], ACTORS.most),
        ("actor", actors, *marks[2:4], 1),
    ]:
        each = (after - before) / max(1, count)
        print(f"{what} kills: {count}; judged again per kill {each:.1f} (in flight: {actors_hit * IN_FLIGHT})")
    print(
        f"queries given up because our kills hit them again and again, and judged by the same command later: {blamed}"
    )
    print(f"engine processes that outlived their driver by 20 s: {orphans}")
    print(f"queries without a row: {options.queries - rows.num_rows}, rows: {rows.num_rows:,}")
    print(f"labels byte-identical to the undisturbed run: {killed == calm}")
    return 0 if killed == calm and not orphans and code == 0 else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        drive(*sys.argv[2:])
    else:
        sys.exit(main())
