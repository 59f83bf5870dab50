"""What would judging cost? Tokens counted on a sample of the pools, before a model is loaded or a cent is spent.

The judge itself runs on the sample, over an engine that only counts tokens and answers with typical replies.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.cluster.annotating import pool_keys
from winnow.cluster.in_hand import Key
from winnow.cluster.sink import EvidenceSink
from winnow.engines.counting import counting_engine
from winnow.judging.build import build_judge
from winnow.judging.ledger import Ledger, render, summary
from winnow.judging.protocol import Judge
from winnow.judging.rows import JudgedTables, evidence_table, pools_of, unfold
from winnow.records import CandidatePool, JudgedQuery
from winnow.seeding import derive_seed
from winnow.steps import pool
from winnow.steps.annotate import evidence_sink, model_cache, pending_keys, read_again
from winnow.steps.config import RunConfig
from winnow.steps.workspace import find

_SAMPLE = 50
"""Pools that the judge is run on, and judged queries that its speed is taken from."""


def estimate(config: RunConfig, *, judge_all_again: bool = False) -> dict[str, Any]:
    """Tokens, time and cost of what ``annotate`` would still judge; printed, and nothing is stored.

    Time is ``None``, and with it a cost by GPU-hour, where the speed of the judge is not known.
    """
    pools = find(pool.plan(config)).directory / pool.POOLS
    keys, sink = pool_keys(pools), evidence_sink(config)
    read_again(config, sink)
    known = sink.statuses()
    pending = keys if judge_all_again else pending_keys(config, keys, known)
    sampled = random.Random(derive_seed(config.seed, "estimate")).sample(sorted(pending), min(_SAMPLE, len(pending)))
    judge = build_judge(config.annotate, model_cache(config), counting_engine)
    tables = unfold(evidence_table(asyncio.run(_judge(judge, _read(pools, frozenset(sampled))))))
    ledger = _ledger(tables)
    speed = _measured_speed(sink, [key for key, status in known.items() if status == "ok"][:_SAMPLE])
    speed = speed or config.annotate.price.expected_tokens_per_s
    expected = ledger.scaled(len(pending))
    for totals in expected.rounds.values():
        totals.seconds = 0.0 if speed is None else (totals.prompt_tokens + totals.output_tokens) / speed
    values = summary(expected, config.annotate.price, gpus=config.annotate.engine.gpus)
    if speed is None:
        values["seconds"] = None
        if config.annotate.price.per_gpu_hour is not None:
            values["cost"] = values["cost_per_1000_queries"] = None
    statuses = Counter(tables.judged_queries["status"].to_pylist())
    _report(values, statuses, num_known=len(keys) - len(pending), speed=speed)
    return values


async def _judge(judge: Judge, pools: Iterable[CandidatePool]) -> list[JudgedQuery]:
    return [await judge.judge(each) for each in pools]


def _read(pools: Path, wanted: Collection[Key]) -> list[CandidatePool]:
    """The wanted pools, read a row group at a time."""
    found: list[CandidatePool] = []
    with pq.ParquetFile(pools) as file:
        for batch in file.iter_batches(256):
            rows = pa.Table.from_batches([batch])
            keys = zip(rows["query_id"].to_pylist(), rows["pool_id"].to_pylist(), strict=True)
            found += pools_of(rows.filter(pa.array([key in wanted for key in keys], pa.bool_())))
    return found


def _measured_speed(sink: EvidenceSink, keys: Collection[Key]) -> float | None:
    """Tokens per second of what this judge has judged before; ``None`` if it has judged nothing."""
    ledger = Ledger()
    for evidence in sink.read(keys):
        ledger.add(unfold(evidence).traces, num_queries=evidence.num_rows)
    return ledger.total.tokens_per_s


def _ledger(judged: JudgedTables) -> Ledger:
    ledger = Ledger()
    ledger.add(judged.traces, num_queries=judged.judged_queries.num_rows)
    return ledger


def _report(values: dict[str, Any], statuses: Counter[str], *, num_known: int, speed: float | None) -> None:
    sampled = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "none"
    print(
        f"dry run: {values['queries']:,} queries are to be judged ({num_known:,} are already), "
        f"estimated from a sample of them ({sampled}): {render(values)}",
        flush=True,
    )
    if speed is None:
        print(
            "dry run: this judge has judged nothing here yet, so its speed is not known, and neither are time and a "
            "cost by GPU-hour; say what you expect of one engine in annotate.price.expected_tokens_per_s",
            flush=True,
        )
    else:
        print(
            f"dry run: about {values['seconds'] / 3600:,.2f} engine hours at {speed:,.0f} tokens/s (measured on this "
            f"judge's earlier judgments, or expected in annotate.price); divide by the number of engines",
            flush=True,
        )
