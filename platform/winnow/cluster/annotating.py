"""Candidate pools stream through a pool of actors; each holds one judge with one engine.

Finished queries go to the durable sink from within the actor, so what a kill costs is what the
actors had in hand. Nothing is decided here.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from winnow import schema
from winnow.cluster.runtime import preflight
from winnow.cluster.sink import EvidenceSink, Key
from winnow.errors import TooManyFailuresError
from winnow.judging.protocol import JudgeFactory
from winnow.judging.rows import pools_of
from winnow.progress import progress
from winnow.records import JudgedQuery

_DONE = pa.schema(
    [("query_id", pa.string()), ("status", pa.string()), ("num_prompts", pa.int64()), ("prompt_tokens", pa.int64())]
)
_NOT_A_FAILURE = {"ok", "empty_pool"}


@dataclass(frozen=True)
class ActorPool:
    """How many actors, what each reserves, and the environment that its process starts with."""

    least: int = 1
    most: int = 1
    num_cpus: float = 1
    num_gpus: float = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    queries_per_batch: int = 8


@dataclass(frozen=True)
class JudgedNow:
    """What this call added to the sink."""

    statuses: Mapping[str, int]
    num_prompts: int
    prompt_tokens: int

    @property
    def num_queries(self) -> int:
        return sum(self.statuses.values())


def judge_pools(
    pools: Path,
    pending: frozenset[Key],
    build_judge: JudgeFactory,
    sink: EvidenceSink,
    *,
    actors: ActorPool,
    max_failures: int,
) -> JudgedNow:
    """Judges the pools of ``pools`` (a ``candidate_pools`` file) whose key is ``pending``, into ``sink``.

    Raises ``TooManyFailuresError`` as soon as more than ``max_failures`` queries failed; what was
    judged by then stays in the sink.
    """
    statuses: Counter[str] = Counter()
    num_prompts = prompt_tokens = 0
    if pending:
        preflight("judging", {"CPU": actors.num_cpus, "GPU": actors.num_gpus}, count=actors.least)
        with progress(len(pending), label="annotate", unit="queries") as bar:
            for done in _stream(pools, pending, build_judge, sink, actors).iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                statuses.update(done["status"].to_pylist())
                num_prompts += sum(done["num_prompts"].to_pylist())
                prompt_tokens += sum(done["prompt_tokens"].to_pylist())
                bar.note(failed=num_failed(statuses))
                bar.advance(done.num_rows)
                check_failures(statuses, max_failures)
    return JudgedNow(statuses, num_prompts, prompt_tokens)


def pool_keys(pools: Path) -> list[Key]:
    """The key of every pool in ``pools``, without reading the passages."""
    table = schema.check_schema(
        pq.read_table(pools, columns=["query_id", "pool_id"]),
        pa.schema([schema.CANDIDATE_POOLS.field(name) for name in ("query_id", "pool_id")]),
        where=str(pools),
    )
    return list(zip(table["query_id"].to_pylist(), table["pool_id"].to_pylist(), strict=True))


def num_failed(statuses: Mapping[str, int]) -> int:
    """Queries that should have a label and have none."""
    return sum(count for status, count in statuses.items() if status not in _NOT_A_FAILURE)


def check_failures(statuses: Mapping[str, int], max_failures: int) -> None:
    """Returns while at most ``max_failures`` queries failed, else raises ``TooManyFailuresError``."""
    if num_failed(statuses) > max_failures:
        raise TooManyFailuresError(
            f"{num_failed(statuses)} queries failed ({dict(statuses)}), more than annotate.max_failed_share "
            f"allows; what was judged is kept: correct the cause and run the same command again"
        )


def _stream(
    pools: Path, pending: frozenset[Key], build_judge: JudgeFactory, sink: EvidenceSink, actors: ActorPool
) -> ray.data.Dataset:
    # It calls the memory of a loaded engine an issue.
    ray.data.DataContext.get_current().issue_detectors_config.detectors = []
    # One block is one task of an actor: small blocks spread the work, and show progress.
    return (
        ray.data.read_parquet(str(pools.absolute()))
        .map_batches(
            _keep_pending,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"pending": ray.put(pending)},
        )
        .repartition(target_num_rows_per_block=actors.queries_per_batch)
        .map_batches(
            _JudgeActor,
            batch_size=actors.queries_per_batch,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                min_size=actors.least, max_size=actors.most, max_tasks_in_flight_per_actor=2
            ),
            fn_constructor_args=(build_judge, sink),
            num_cpus=actors.num_cpus,
            num_gpus=actors.num_gpus,
            runtime_env={"env_vars": dict(actors.environment)},
        )
    )


def _keep_pending(pools: pa.Table, pending: ray.ObjectRef) -> pa.Table:
    wanted: frozenset[Key] = ray.get(pending)
    keys = zip(pools["query_id"].to_pylist(), pools["pool_id"].to_pylist(), strict=True)
    return pools.filter(pa.array([key in wanted for key in keys], pa.bool_()))


class _JudgeActor:
    """One engine. Safe to repeat: a query judged twice has one row that counts."""

    def __init__(self, build_judge: JudgeFactory, sink: EvidenceSink) -> None:
        self._judge = build_judge()
        self._sink = sink

    def __call__(self, pools: pa.Table) -> pa.Table:
        judged = self._judge.judge(pools_of(pools)) if pools.num_rows else []
        if judged:
            self._sink.write(judged)
        return pa.Table.from_pylist(list(map(_receipt, judged)), schema=_DONE)


def _receipt(judged: JudgedQuery) -> dict[str, str | int]:
    return {
        "query_id": judged.query_id,
        "status": judged.status,
        "num_prompts": len(judged.traces),
        "prompt_tokens": sum(trace.prompt_tokens for trace in judged.traces),
    }
