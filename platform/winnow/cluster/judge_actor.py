"""One judge with its engine in an actor: batches of pools in, evidence in the sink, receipts out.

Several batches are worked on at a time, each in a thread of its own, so that the engine has more to do
while a batch waits for its slowest query. A query that kills the process is found by ``in_hand.py``.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from threading import Thread

import pyarrow as pa

from winnow.cluster.in_hand import InHand, Key
from winnow.cluster.sink import EvidenceSink
from winnow.engines.protocol import EngineDeadError
from winnow.judging.protocol import Judge, JudgeFactory
from winnow.judging.rows import pools_of
from winnow.records import CandidatePool, JudgedQuery

RECEIPT = pa.schema(
    [("query_id", pa.string()), ("status", pa.string()), ("num_calls", pa.int64()), ("num_tokens", pa.int64())]
)
MOST_DEATHS = 2
"""Processes that a query may kill, judged alone, before it is given up."""
_EXIT_CODE = 70


class JudgeActor:
    """Safe to repeat: a query judged twice has one row that counts."""

    def __init__(self, build_judge: JudgeFactory, sink: EvidenceSink, in_hand: InHand) -> None:
        self._judge = build_judge()
        self._sink = sink
        self._in_hand = in_hand
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, name="winnow-judge", daemon=True).start()

    def __call__(self, table: pa.Table) -> pa.Table:
        pools = pools_of(table)
        keys = [_key(pool) for pool in pools]
        # A process died with this batch: one of its queries may be the reason.
        groups = [pools] if not self._in_hand.deaths(keys) else [[pool] for pool in pools]
        judged = [one for group in groups if group for one in self._store(group)]
        return pa.Table.from_pylist(list(map(_receipt, judged)), schema=RECEIPT)

    def _store(self, pools: Sequence[CandidatePool]) -> list[JudgedQuery]:
        keys = [_key(pool) for pool in pools]
        deaths = self._in_hand.deaths(keys)
        if len(pools) == 1 and deaths >= MOST_DEATHS:
            judged = [self._given_up(pools[0], deaths)]
        else:
            with self._in_hand.holding(keys):
                judged = self._judge_all(pools)
        self._sink.write(judged)
        return judged

    def _judge_all(self, pools: Sequence[CandidatePool]) -> list[JudgedQuery]:
        try:
            return asyncio.run_coroutine_threadsafe(_gather(self._judge, pools), self._loop).result()
        except EngineDeadError as error:
            # Nothing can be judged here any more; Ray starts the actor anew and gives it the same batches.
            print(f"annotate: the engine died ({error}); its process is started again", file=sys.stderr, flush=True)
            os._exit(_EXIT_CODE)

    def _given_up(self, pool: CandidatePool, deaths: int) -> JudgedQuery:
        detail = f"the engine's process died {deaths} times while it judged this query alone"
        return JudgedQuery(pool.query_id, pool.pool_id, self._judge.judge_id, "engine_error", detail, attempts=deaths)


async def _gather(judge: Judge, pools: Sequence[CandidatePool]) -> list[JudgedQuery]:
    return list(await asyncio.gather(*(judge.judge(pool) for pool in pools)))


def _key(pool: CandidatePool) -> Key:
    return pool.query_id, pool.pool_id


def _receipt(judged: JudgedQuery) -> dict[str, str | int]:
    return {
        "query_id": judged.query_id,
        "status": judged.status,
        "num_calls": len(judged.traces),
        "num_tokens": sum(trace.prompt_tokens + trace.output_tokens for trace in judged.traces),
    }
