"""Let the judge assess every candidate of every question; what was judged before is not judged again."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow import schema
from winnow.cluster.annotating import ActorPool, JudgedNow, check_failures, judge_pools, num_failed, pool_keys
from winnow.cluster.in_hand import Key
from winnow.cluster.runtime import ray_session
from winnow.cluster.sink import EvidenceSink
from winnow.engines import build_engine, model_id, prepare_engine
from winnow.engines.config import engine_environment
from winnow.errors import DataError
from winnow.judging.build import EngineFactory, build_judge
from winnow.judging.config import AnnotateConfig
from winnow.judging.identity import judge_id
from winnow.judging.ledger import Ledger, render, summary
from winnow.judging.rereading import reading_version, reads_alike
from winnow.judging.rows import unfold
from winnow.records import Status
from winnow.steps import pool
from winnow.steps.config import RunConfig
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "4"
JUDGED_QUERIES = "judged_queries.parquet"
JUDGMENTS = "judgments.parquet"
TRACES = "judge_traces.parquet"


@dataclass(frozen=True)
class _Judging:
    """How this call judges, beyond its configuration."""

    build_engine: EngineFactory
    judge_all_again: bool


@dataclass
class _Published:
    """What was counted while the datasets were written."""

    keys: list[Key] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    num_judgments: int = 0
    passages_cut: int = 0
    asked_again: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    ledger: Ledger = field(default_factory=Ledger)


def plan(config: RunConfig) -> StepPlan:
    """What ``annotate`` would compute for ``config``."""
    inputs = {
        "candidate_pools": find(pool.plan(config)).content_hash,
        "judge": _judge_id(config),
        "reading": str(reading_version(config.annotate.judge)),
    }
    return StepPlan("annotate", STEP_VERSION, config.output, config.annotate.science(), inputs)


def annotate(
    config: RunConfig, options: StepOptions = StepOptions(), *, build_engine: EngineFactory = build_engine
) -> StepResult:
    """The judgments of every pool. Engine errors of an earlier run are retried; ``force`` judges everything again."""
    planned = plan(config)
    judging = _Judging(build_engine, judge_all_again=options.force)
    force = options.force or _has_something_to_retry(planned, config.annotate) or _was_interrupted(config)
    return produce(planned, partial(_build, config, judging), replace(options, force=force))


def judge_again(config: RunConfig, pools: Path, *, build_engine: EngineFactory = build_engine) -> pa.Table:
    """The judgments of other pools by the same judge, into the same sink; what it holds is not judged again.

    However many fail: those have no judgments.
    """
    keys, sink = pool_keys(pools), evidence_sink(config)
    _judge_missing(config, build_engine, pools, sink, max_failures=len(keys))
    tables = [unfold(evidence) for evidence in sink.read(keys)]
    _check_complete(keys, [key for each in tables for key in _keys_of(each.judged_queries)], sink)
    return pa.concat_tables([schema.JUDGMENTS.empty_table(), *(each.judgments for each in tables)])


def evidence_sink(config: RunConfig) -> EvidenceSink:
    """Where the evidence of the judge of ``config`` is kept, for all runs under the output root."""
    directory = config.output / "annotate" / "evidence" / _judge_id(config)
    return EvidenceSink(directory, reading=reading_version(config.annotate.judge))


def _judge_id(config: RunConfig) -> str:
    return judge_id(config.annotate, model_id=_model_id(config))


def _model_id(config: RunConfig) -> str:
    return model_id(config.annotate.engine)


def read_again(config: RunConfig, sink: EvidenceSink) -> None:
    """Let what an earlier version of the parser read count again, as far as this one reads it alike."""
    judge = config.annotate.judge
    if judge.kind != "listwise" or not sink.directory.exists():
        return
    alike, unlike = sink.read_again(partial(reads_alike, config=judge))
    if alike or unlike:
        print(
            f"annotate: the reading of replies has changed since {alike + unlike:,} queries were judged; {alike:,} are "
            f"read alike and kept, {unlike:,} are judged again where they are needed",
            flush=True,
        )


def pending_keys(config: RunConfig, keys: Sequence[Key], known: Mapping[Key, Status]) -> list[Key]:
    """Those of ``keys`` that have no outcome yet, or one that is worth another try."""
    retried = _retried(config.annotate)
    return [key for key in keys if key not in known or known[key] in retried]


def _build(config: RunConfig, judging: _Judging, context: StepContext) -> Mapping[str, Any]:
    pooled = find(pool.plan(config))
    pools = pooled.directory / pool.POOLS
    keys, sink = pool_keys(pools), evidence_sink(config)
    if judging.judge_all_again:
        sink.set_aside()
    now = _judge_missing(config, judging.build_engine, pools, sink, max_failures=_max_failures(config.annotate, keys))
    published = _publish(sink.read(keys), context)
    _check_complete(keys, published.keys, sink)
    counts = _counts(published, now, config.annotate)
    _log(counts, pooled, context)
    _report(counts)
    check_failures(counts["statuses"], _max_failures(config.annotate, keys))
    return {"judge_id": _judge_id(config), **counts}


def _judge_missing(
    config: RunConfig, build_engine: EngineFactory, pools: Path, sink: EvidenceSink, *, max_failures: int
) -> JudgedNow:
    read_again(config, sink)
    keys, known = pool_keys(pools), sink.statuses()
    pending = pending_keys(config, keys, known)
    settled = Counter(known[key] for key in set(keys) - set(pending))
    print(f"annotate: {len(pending):,} of {len(keys):,} queries are to be judged", flush=True)
    cache = model_cache(config)
    if not pending:
        return JudgedNow()
    # Once, before every actor wants it.
    prepare_engine(config.annotate.engine, cache, max_reasoning_tokens=config.annotate.judge.reasoning_tokens)
    with ray_session(config.cluster):
        return judge_pools(
            pools,
            pending,
            partial(build_judge, config.annotate, cache, build_engine, model_id=_model_id(config)),
            sink,
            actors=_actors(config.annotate),
            max_failures=max_failures,
            settled=settled,
        )


def model_cache(config: RunConfig) -> Path:
    """Where models that had to be converted are kept."""
    return (config.output / "cache" / "models").absolute()


def _actors(config: AnnotateConfig) -> ActorPool:
    return ActorPool(
        least=config.actors[0],
        most=config.actors[1],
        num_cpus=config.engine.cpus,
        num_gpus=config.engine.gpus,
        threads=0 if config.engine.gpus or config.engine.kind == "server" else config.engine.threads,
        environment=engine_environment(config.engine),
        queries_per_batch=config.queries_per_batch,
        batches_in_flight=config.batches_in_flight,
    )


def _retried(config: AnnotateConfig) -> set[Status]:
    """Only an engine error may go away by itself; the others fail the same way again."""
    always: set[Status] = {"engine_error"}
    return always | {"malformed", "truncated", "too_long"} if config.retry_failed else always


def _has_something_to_retry(planned: StepPlan, config: AnnotateConfig) -> bool:
    try:
        statuses = find(planned).summary["statuses"]
    except DataError:
        return False
    return not _retried(config).isdisjoint(statuses)


def _was_interrupted(config: RunConfig) -> bool:
    """Whether judging everything again was begun and not finished: the sink then holds less than the pools."""
    sink = evidence_sink(config)
    keys = pool_keys(find(pool.plan(config)).directory / pool.POOLS)
    return sink.directory.exists() and not set(keys) <= sink.statuses().keys()


def _max_failures(config: AnnotateConfig, keys: Sequence[Key]) -> int:
    """At least one, so that a single bad query does not stop a small job."""
    return max(1, int(config.max_failed_share * len(keys))) if config.max_failed_share else 0


def _publish(evidence: Iterable[pa.Table], context: StepContext) -> _Published:
    """The three datasets, written a range of keys at a time."""
    published = _Published()
    datasets = {JUDGED_QUERIES: schema.JUDGED_QUERIES, JUDGMENTS: schema.JUDGMENTS, TRACES: schema.JUDGE_TRACES}
    with ExitStack() as stack:
        appends = [
            stack.enter_context(
                schema.writing_dataset(context.directory / name, columns, fingerprint=context.fingerprint)
            )
            for name, columns in datasets.items()
        ]
        for rows in evidence:
            tables = unfold(rows)
            for append, table in zip(appends, (tables.judged_queries, tables.judgments, tables.traces), strict=True):
                append(table)
            published.keys += _keys_of(tables.judged_queries)
            published.statuses.update(tables.judged_queries["status"].to_pylist())
            published.num_judgments += tables.judgments.num_rows
            published.passages_cut += pc.sum(tables.judged_queries["passages_cut"], min_count=0).as_py()
            published.asked_again += pc.sum(pc.equal(tables.traces["attempt"], 2), min_count=0).as_py()
            published.notes.update(_notes(tables.judged_queries))
            published.ledger.add(tables.traces, num_queries=tables.judged_queries.num_rows)
    return published


def _keys_of(judged_queries: pa.Table) -> list[Key]:
    columns = (judged_queries[name].to_pylist() for name in ("query_id", "pool_id"))
    return list(zip(*columns, strict=True))


def _check_complete(keys: Sequence[Key], found: Sequence[Key], sink: EvidenceSink) -> None:
    """Every pool has one row, whatever became of it. Raises ``DataError``: less than all must not pass for all."""
    missing = sorted(set(keys) - set(found))
    if missing or len(found) != len(keys):
        raise DataError(
            f"{len(found):,} rows of evidence are in {str(sink.directory)!r} for {len(keys):,} queries"
            + (f"; {len(missing):,} have none, such as {missing[0][0]!r}" if missing else "")
            + "; check that no other run moved or removed files there, and run the same command again"
        )


def _notes(judged_queries: pa.Table) -> list[str]:
    """What the judge noted on queries that it did judge."""
    return judged_queries.filter(pc.equal(judged_queries["status"], "ok"))["detail"].drop_null().to_pylist()


def _counts(published: _Published, now: JudgedNow, config: AnnotateConfig) -> dict[str, Any]:
    return {
        "statuses": dict(sorted(published.statuses.items())),
        "judgments": published.num_judgments,
        "judged_now": now.num_queries,
        "passages_cut": published.passages_cut,
        "asked_again": published.asked_again,
        "notes": dict(published.notes.most_common(5)),
        "ledger": summary(published.ledger, config.price, gpus=config.engine.gpus),
    }


def _log(counts: Mapping[str, Any], pooled: StepResult, context: StepContext) -> None:
    statuses, ledger = counts["statuses"], counts["ledger"]
    context.journal.dataset(
        pool.POOLS,
        path=pooled.directory / pool.POOLS,
        digest=pooled.content_hash,
        context="annotation",
        num_rows=sum(statuses.values()),
    )
    flat = {**{f"status.{name}": count for name, count in statuses.items()}, **counts, **ledger}
    numbers = {name: value for name, value in flat.items() if isinstance(value, int | float)}
    context.journal.metrics({f"annotate.{name}": value for name, value in numbers.items()})


def _report(counts: Mapping[str, Any]) -> None:
    statuses = counts["statuses"]
    num_queries, failed = sum(statuses.values()), num_failed(statuses)
    by_status = ", ".join(f"{count:,} {name}" for name, count in statuses.items())
    print(
        f"annotate: judged {num_queries:,} queries, {counts['judged_now']:,} of them now: {by_status}"
        + (f" ({failed / num_queries:.1%} failed)" if failed else "")
        + f"; {counts['judgments']:,} judgments, {counts['passages_cut']:,} passages cut, "
        f"{counts['asked_again']:,} replies asked for again; {render(counts['ledger'])}",
        flush=True,
    )
    for note, count in counts["notes"].items():
        print(f"annotate: {count:,} queries with {note}", flush=True)
