"""Candidate pools stream through a pool of actors, each with one judge (``judge_actor.py``)."""

from collections import Counter
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from winnow import schema
from winnow.cluster.arrivals import Arrivals
from winnow.cluster.in_hand import Key, in_hand
from winnow.cluster.judge_actor import JudgeActor
from winnow.cluster.reading import RowReader, row_places
from winnow.cluster.runtime import note_crowding, preflight
from winnow.cluster.sink import EvidenceSink
from winnow.cluster.starting import MOST_FAILED, Starts
from winnow.errors import ConfigError, TooManyFailuresError
from winnow.judging.protocol import JudgeFactory
from winnow.progress import progress

_NOT_A_FAILURE = {"ok", "empty_pool", "no_answer"}
_COMPACT_EVERY = 1000
"""Stored batches after which the sink is asked to merge its small parts."""
_MOST_BLOCKS = 4096
"""Ray keeps a record of each task from the start, so those of large sets have several batches."""
_FIRST_QUERIES = 200
_HOPELESS_SHARE = 0.9


@dataclass(frozen=True)
class ActorPool:
    """How many actors, what each reserves and works on, and the environment that its process starts with."""

    least: int = 1
    most: int = 1
    num_cpus: float = 1
    num_gpus: float = 0
    threads: int = 0
    """Threads of each that compute on a CPU."""
    environment: Mapping[str, str] = field(default_factory=dict)
    queries_per_batch: int = 8
    batches_in_flight: int = 4


@dataclass
class JudgedNow:
    """What this call added to the sink."""

    statuses: Counter[str] = field(default_factory=Counter)
    num_calls: int = 0
    num_batches: int = 0
    last_failure: str | None = None
    """Why the last query failed that did."""

    @property
    def num_queries(self) -> int:
        return self.statuses.total()

    def add(self, receipts: pa.Table) -> None:
        """Count a batch."""
        self.statuses.update(receipts["status"].to_pylist())
        self.num_calls += pc.sum(receipts["num_calls"], min_count=0).as_py()
        self.num_batches += 1
        for status, detail in zip(receipts["status"].to_pylist(), receipts["detail"].to_pylist(), strict=True):
            if status not in _NOT_A_FAILURE:
                self.last_failure = detail


def judge_pools(
    pools: Path,
    pending: Collection[Key],
    build_judge: JudgeFactory,
    sink: EvidenceSink,
    *,
    actors: ActorPool,
    max_failures: int,
    settled: Mapping[str, int] = MappingProxyType({}),
) -> JudgedNow:
    """Judges the pools of ``pools`` (a ``candidate_pools`` file) whose key is ``pending``, into ``sink``.

    Raises ``TooManyFailuresError`` as soon as more than ``max_failures`` queries failed, those among the
    statuses ``settled`` before included, or nearly all of the first ones although not all may; what was judged by
    then stays in the sink. Raises ``ConfigError`` for a judge that cannot be built, ``DataError`` for evidence that
    an actor has stored and this machine does not see.
    """
    now = JudgedNow()
    check_failures(settled, max_failures)
    if not pending:
        return now
    preflight("judging", {"CPU": actors.num_cpus, "GPU": actors.num_gpus}, count=actors.least)
    note_crowding("judging", processes=actors.most, threads=actors.threads, cpus=actors.num_cpus)
    may_all_fail = max_failures >= len(pending) + sum(settled.values())
    arrivals = Arrivals(sink)
    starts = Starts(sink.directory / ".starts", at_a_time=actors.most)
    starts.clear()
    with in_hand(sink.directory) as notes, progress(len(pending), label="annotate", unit="queries") as bar:
        stream = _stream(pools, set(pending), (partial(starts.judge, build_judge), sink, notes), actors)
        for receipts in stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            _check_refusals(receipts)
            is_early = now.num_queries < _FIRST_QUERIES
            now.add(receipts)
            bar.note(failed=num_failed(now.statuses))
            bar.advance(receipts.num_rows)
            arrivals.expect(receipts)
            check_failures(now.statuses + Counter(settled), max_failures)
            if is_early and not may_all_fail:
                check_first(now)
            if now.num_batches % _COMPACT_EVERY == 0:
                sink.compact()
        arrivals.wait()
    sink.compact()
    return now


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


def check_first(now: JudgedNow) -> None:
    """Returns unless the first queries are through and nearly all of them failed; raises ``TooManyFailuresError``."""
    failed = num_failed(now.statuses)
    if now.num_queries >= _FIRST_QUERIES and failed >= _HOPELESS_SHARE * now.num_queries:
        raise TooManyFailuresError(
            f"{failed} of the first {now.num_queries} queries failed ({dict(now.statuses)}), the last one with "
            f"{now.last_failure!r}; correct the cause and run the same command again, "
            f"or go on regardless with annotate.max_failed_share=1"
        )


def _check_refusals(receipts: pa.Table) -> None:
    for node, refusal in zip(receipts["node"].to_pylist(), receipts["refusal"].to_pylist(), strict=True):
        if refusal is not None:
            raise ConfigError(f"no query can be judged on node {node!r}: {refusal}")


def _stream(pools: Path, pending: Set[Key], actor_arguments: tuple[object, ...], actors: ActorPool) -> ray.data.Dataset:
    context = ray.data.DataContext.get_current()
    context.issue_detectors_config.detectors = []  # they call the memory of a loaded engine an issue
    context.max_consecutive_actor_init_deaths = 2 * MOST_FAILED * actors.most  # ``Starts`` ends it before
    # Places, which the actors read. One block is one task of an actor: small ones spread the work.
    places = row_places(pools, pa.array([key in pending for key in pool_keys(pools)], pa.bool_()))
    size = max(actors.queries_per_batch, -(-places.num_rows // _MOST_BLOCKS))
    blocks = [places.slice(start, size) for start in range(0, places.num_rows, size)]
    return ray.data.from_arrow(blocks).map_batches(
        JudgeActor,
        batch_size=actors.queries_per_batch,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=actors.least,
            max_size=actors.most,
            max_tasks_in_flight_per_actor=actors.batches_in_flight + 1,
            max_concurrent_calls_per_actor=actors.batches_in_flight,
            enable_true_multi_threading=True,
        ),
        fn_constructor_args=(*actor_arguments, RowReader(pools.absolute()).take),
        num_cpus=actors.num_cpus,
        num_gpus=actors.num_gpus,
        runtime_env={"env_vars": dict(actors.environment)},
    )
