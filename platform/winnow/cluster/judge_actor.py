"""One judge with its engine in an actor: batches of pools in, evidence in the sink, receipts out.

Several batches are worked on at a time, each in a thread of its own, so that the engine has more to do
while a batch waits for its slowest query. A query that kills the process is found by ``in_hand.py``.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from threading import Lock, Thread
from typing import Any

import pyarrow as pa

from winnow.cluster.in_hand import InHand, Key
from winnow.cluster.sink import EvidenceSink
from winnow.engines.protocol import EngineDeadError
from winnow.errors import WinnowError
from winnow.judging.protocol import Judge, JudgeFactory
from winnow.judging.rows import pools_of
from winnow.records import CandidatePool, JudgedQuery

RECEIPT = pa.schema(
    [
        ("query_id", pa.string()),
        ("status", pa.string()),
        ("detail", pa.string()),
        ("num_calls", pa.int64()),
        ("part", pa.string()),
        ("node", pa.string()),
        ("refusal", pa.string()),
    ]
)
"""A row for each judged query, with the file that its evidence is in and the node that wrote it; or one row with
nothing but a node and why no query can be judged there."""
MOST_DEATHS = 2
"""Processes that may die with a batch before its queries are judged alone, and with a query before it is given up."""
_EXIT_CODE = 70


class JudgeActor:
    """Safe to repeat: a query judged twice has one row that counts."""

    def __init__(
        self,
        build_judge: JudgeFactory,
        sink: EvidenceSink,
        in_hand: InHand,
        read_pools: Callable[[pa.Table], pa.Table],
    ) -> None:
        """``read_pools`` finds the pools of a batch, which is a table of their places."""
        self._read_pools = read_pools
        self._sink = sink
        self._in_hand = in_hand
        self._alone = Lock()
        self._refusal: str | None = None
        try:
            self._judge = build_judge()
        except WinnowError as error:
            # Said, not raised: Ray would start the actor again, and it would fail the same way.
            self._refusal = str(error)
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, name="winnow-judge", daemon=True).start()

    def __call__(self, places: pa.Table) -> pa.Table:
        pools = pools_of(self._read_pools(places))
        if self._refusal is not None and pools:
            receipts = [{"node": socket.gethostname(), "refusal": self._refusal}]
        else:
            receipts = self._judge_batch(pools) if pools else []
        return pa.Table.from_pylist(receipts, schema=RECEIPT)

    def _judge_batch(self, pools: Sequence[CandidatePool]) -> list[dict[str, Any]]:
        keys = [_key(pool) for pool in pools]
        if self._in_hand.deaths(keys) >= MOST_DEATHS:
            # Once may be anybody's kill; twice, and one of its queries may be the reason.
            return [receipt for pool in pools for receipt in self._judge_alone(pool)]
        with self._in_hand.holding(keys):
            judged = self._judge_all(pools)
        return self._store(judged)

    def _judge_alone(self, pool: CandidatePool) -> list[dict[str, Any]]:
        """One suspect at a time, or another one would be blamed for its deeds."""
        with self._alone:
            deaths = self._in_hand.deaths([_key(pool)], alone=True)
            if deaths >= MOST_DEATHS:
                judged = self._given_up(pool, deaths)
            else:
                with self._in_hand.holding([_key(pool)], alone=True):
                    (judged,) = self._judge_all([pool])
            return self._store([judged])

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

    def _store(self, judged: Sequence[JudgedQuery]) -> list[dict[str, Any]]:
        """Receipts for what is on disk now."""
        where = {"part": self._sink.write(judged), "node": socket.gethostname()}
        return [_receipt(each) | where for each in judged]


async def _gather(judge: Judge, pools: Sequence[CandidatePool]) -> list[JudgedQuery]:
    return list(await asyncio.gather(*(judge.judge(pool) for pool in pools)))


def _key(pool: CandidatePool) -> Key:
    return pool.query_id, pool.pool_id


def _receipt(judged: JudgedQuery) -> dict[str, Any]:
    return {
        "query_id": judged.query_id,
        "status": judged.status,
        "detail": judged.detail,
        "num_calls": len(judged.traces),
    }
