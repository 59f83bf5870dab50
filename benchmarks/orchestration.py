"""How many engines can one machine's Ray keep busy? Simulated engines: each serves one query at a time, in 2 s.

python benchmarks/orchestration.py [--engines 8 16 32 64] [--queries-per-batch 1]

Busy is the share of engine time in which a query was being served, between the moment when every engine has
begun and the moment when the first one finds no more work. Memory is the PSS of all engine processes at work. The
engines compute nothing, so what is short here is the machine that hands out the work and stores the results.
"""

import argparse
import asyncio
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil
import scripted_runs as runs

import winnow.cluster  # noqa: F401  (sets Ray's switches before it is imported)
from winnow.cluster.annotating import ActorPool, judge_pools, pool_keys
from winnow.cluster.sink import EvidenceSink
from winnow.records import CandidatePool, JudgedQuery, Judgment

SERVICE_S = 2.0
PSS_AFTER = 10
"""Queries after which an engine reads its own memory: once, for that takes the kernel long."""

QUERIES_PER_ENGINE = 25
"""Once all have begun; engines start one after another, and those that are there meanwhile work."""


class SimulatedJudge:
    """Takes 2 s for a query, one query at a time, and writes down when."""

    judge_id = "simulated"

    def __init__(self, log: Path) -> None:
        self._log = log / f"{os.getpid()}.spans"
        self._turn = asyncio.Lock()
        self._served = 0

    async def judge(self, pool: CandidatePool) -> JudgedQuery:
        async with self._turn:
            started = time.monotonic()
            await asyncio.sleep(SERVICE_S)
            with self._log.open("a") as file:
                file.write(f"{started} {time.monotonic()}\n")
        self._served += 1
        if self._served == PSS_AFTER:
            self._log.with_suffix(".pss").write_text(str(psutil.Process().memory_full_info().pss))
        judgments = tuple(Judgment(passage.passage_id, utility_score=0.0) for passage in pool.passages)
        return JudgedQuery(pool.query_id, pool.pool_id, self.judge_id, "ok", judgments=judgments)

    def close(self) -> None:
        """Holds nothing."""


def build(log: Path) -> SimulatedJudge:
    """By name, so that it can be sent to actors."""
    return SimulatedJudge(log)


def measure(num_engines: int, queries_per_batch: int, folder: Path) -> str:
    """A row of the table: engines, busy share, queries/s, memory, CPU of the driver's machine."""
    log = folder / f"log-{num_engines}"
    log.mkdir()
    # A batch that has been handed out stays where it is, so larger ones make the end longer.
    num_queries = num_engines * (QUERIES_PER_ENGINE + 2 * queries_per_batch + num_engines)
    pools = runs.write_pools(folder / f"pools-{num_engines}.parquet", num_queries)
    sink = EvidenceSink(folder / f"sink-{num_engines}")
    actors = ActorPool(
        least=num_engines, most=num_engines, num_cpus=0.01, queries_per_batch=queries_per_batch, batches_in_flight=2
    )
    psutil.cpu_percent()
    started, cpu = time.monotonic(), psutil.cpu_times()
    judge_pools(
        pools, pool_keys(pools), partial(build, log), sink,
        actors=actors, max_failures=0,
    )  # fmt: skip
    spans = [_spans(path) for path in log.glob("*.spans")]
    pss = [int(path.read_text()) for path in log.glob("*.pss")]
    begin, end = max(span[0][0] for span in spans), min(span[-1][1] for span in spans)
    served = sum(max(0.0, min(b, end) - max(a, begin)) for span in spans for a, b in span)
    busy = served / (len(spans) * (end - begin))
    used = psutil.cpu_times()
    share = (used.user + used.system - cpu.user - cpu.system) / (time.monotonic() - started) / psutil.cpu_count()
    return (
        f"| {num_engines} | {busy:.1%} | {served / SERVICE_S / (end - begin):.1f} of {num_engines / SERVICE_S:.1f} "
        f"| {end - begin:.0f} | {begin - started:.0f} | {share:.0%} | {sum(pss) / 2**30:.1f} ({len(pss)}) |"
    )


def _spans(path: Path) -> list[tuple[float, float]]:
    return [tuple(map(float, line.split())) for line in path.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--queries-per-batch", type=int, default=1)
    options = parser.parse_args()
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=300 * 2**20,
        include_dashboard=False,
        logging_level="error",
        runtime_env={"env_vars": {"PYTHONPATH": runs.PYTHONPATH, "OMP_NUM_THREADS": "1"}},
    )
    print(
        "| engines | busy | queries/s | measured s | start s | CPU used | GiB (engines) |\n"
        "|---:|---:|---:|---:|---:|---:|---:|",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="winnow-orchestration-") as name:
        for num_engines in options.engines:
            print(measure(num_engines, options.queries_per_batch, Path(name)), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
