"""Let the judge score every candidate of every question; what was judged before is not judged again."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow import schema
from winnow.cluster.annotating import ActorPool, JudgedNow, check_failures, judge_pools, num_failed, pool_keys
from winnow.cluster.runtime import ray_session
from winnow.cluster.sink import EvidenceSink, Key
from winnow.engines import build_engine
from winnow.engines.checkpoint import checkpoint_directory, model_id
from winnow.engines.config import engine_environment
from winnow.errors import DataError
from winnow.judging.build import EngineFactory, build_judge
from winnow.judging.config import AnnotateConfig
from winnow.judging.identity import judge_id
from winnow.judging.likelihood import is_cut
from winnow.judging.rows import JudgedTables, unfold
from winnow.records import Status
from winnow.steps import pool
from winnow.steps.config import RunConfig
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "1"
JUDGED_QUERIES = "judged_queries.parquet"
JUDGMENTS = "judgments.parquet"
TRACES = "judge_traces.parquet"


@dataclass(frozen=True)
class _Judging:
    """How this call judges, beyond its configuration."""

    build_engine: EngineFactory
    judge_all_again: bool


def plan(config: RunConfig) -> StepPlan:
    """What ``annotate`` would compute for ``config``."""
    judge = judge_id(config.annotate, model_id=model_id(config.annotate.engine))
    inputs = {"candidate_pools": find(pool.plan(config)).content_hash, "judge": judge}
    return StepPlan("annotate", STEP_VERSION, config.output, config.annotate.science(), inputs)


def annotate(
    config: RunConfig, options: StepOptions = StepOptions(), *, build_engine: EngineFactory = build_engine
) -> StepResult:
    """The judgments of every pool. Engine errors of an earlier run are retried; ``force`` judges everything again."""
    planned = plan(config)
    judging = _Judging(build_engine, judge_all_again=options.force)
    force = options.force or _has_something_to_retry(planned, config.annotate)
    return produce(planned, partial(_build, config, judging), replace(options, force=force))


def _build(config: RunConfig, judging: _Judging, context: StepContext) -> Mapping[str, Any]:
    pooled = find(pool.plan(config))
    pools = pooled.directory / pool.POOLS
    judge = judge_id(config.annotate, model_id=model_id(config.annotate.engine))
    sink = EvidenceSink(context.output / "annotate" / "evidence" / judge)
    if judging.judge_all_again:
        sink.set_aside()
    keys = pool_keys(pools)
    now = _judge_missing(config, judging.build_engine, pools, keys, sink)
    tables = unfold(sink.read(keys))
    _publish(tables, context)
    counts = _counts(tables, now, num_cut=_num_cut(pools, config.annotate.judge.max_passage_words))
    _log(counts, judge, pooled, context)
    _report(counts)
    check_failures(counts["statuses"], _max_failures(config.annotate, keys))
    return {"judge_id": judge, **counts}


def _judge_missing(
    config: RunConfig, build_engine: EngineFactory, pools: Path, keys: list[Key], sink: EvidenceSink
) -> JudgedNow:
    known = sink.statuses()
    retried = _retried(config.annotate)
    settled = {key: known[key] for key in keys if key in known and known[key] not in retried}
    pending = frozenset(keys) - settled.keys()
    print(f"annotate: {len(pending):,} of {len(keys):,} queries are to be judged", flush=True)
    cache = (config.output / "cache" / "models").absolute()
    if pending:
        checkpoint_directory(config.annotate.engine, cache)  # once, before every actor wants it
    with ray_session(config.cluster):
        return judge_pools(
            pools,
            pending,
            partial(build_judge, config.annotate, cache, build_engine),
            sink,
            actors=_actors(config.annotate),
            max_failures=_max_failures(config.annotate, keys) - num_failed(Counter(settled.values())),
        )


def _actors(config: AnnotateConfig) -> ActorPool:
    return ActorPool(
        least=config.actors[0],
        most=config.actors[1],
        num_cpus=config.engine.cpus,
        num_gpus=config.engine.gpus,
        environment=engine_environment(config.engine),
        queries_per_batch=config.queries_per_batch,
    )


def _retried(config: AnnotateConfig) -> set[Status]:
    """Only an engine error may go away by itself; the others fail the same way again."""
    return {"engine_error", "malformed", "truncated", "too_long"} if config.retry_failed else {"engine_error"}


def _has_something_to_retry(planned: StepPlan, config: AnnotateConfig) -> bool:
    try:
        statuses = find(planned).summary["statuses"]
    except DataError:
        return False
    return not _retried(config).isdisjoint(statuses)


def _max_failures(config: AnnotateConfig, keys: list[Key]) -> int:
    return int(config.max_failed_share * len(keys))


def _publish(tables: JudgedTables, context: StepContext) -> None:
    for name, table in {
        JUDGED_QUERIES: tables.judged_queries,
        JUDGMENTS: tables.judgments,
        TRACES: tables.traces,
    }.items():
        schema.write_dataset(context.directory / name, table, fingerprint=context.fingerprint)


def _num_cut(pools: Path, max_words: int) -> int:
    batches = pq.ParquetFile(pools).iter_batches(columns=["passages"])
    texts = (text for batch in batches for text in pc.struct_field(pc.list_flatten(batch["passages"]), "text"))
    return sum(is_cut(text.as_py(), max_words) for text in texts)


def _counts(tables: JudgedTables, now: JudgedNow, *, num_cut: int) -> dict[str, Any]:
    def total(column: str) -> float:
        return pc.sum(tables.traces[column], min_count=0).as_py()

    return {
        "statuses": dict(sorted(Counter(tables.judged_queries["status"].to_pylist()).items())),
        "judgments": tables.judgments.num_rows,
        "judged_now": now.num_queries,
        "prompts": tables.traces.num_rows,
        "prompt_tokens": total("prompt_tokens"),
        "cached_tokens": total("cached_tokens"),
        "output_tokens": total("output_tokens"),
        "engine_seconds": round(total("seconds"), 3),
        "passages_cut": num_cut,
    }


def _log(counts: Mapping[str, Any], judge: str, pooled: StepResult, context: StepContext) -> None:
    statuses = counts["statuses"]
    context.journal.params({"annotate.judge_id": judge})
    context.journal.dataset(
        pool.POOLS,
        path=pooled.directory / pool.POOLS,
        digest=pooled.content_hash,
        context="annotation",
        num_rows=sum(statuses.values()),
    )
    flat = {**{f"status.{name}": count for name, count in statuses.items()}, **counts}
    context.journal.metrics({f"annotate.{name}": value for name, value in flat.items() if name != "statuses"})


def _report(counts: Mapping[str, Any]) -> None:
    statuses, seconds = counts["statuses"], counts["engine_seconds"]
    num_queries, failed = sum(statuses.values()), num_failed(statuses)
    by_status = ", ".join(f"{count:,} {name}" for name, count in statuses.items())
    print(
        f"annotate: judged {num_queries:,} queries, {counts['judged_now']:,} of them now: {by_status}"
        + (f" ({failed / num_queries:.1%} failed)" if failed else "")
        + f"; {counts['judgments']:,} judgments, {counts['passages_cut']:,} passages cut; "
        f"{counts['prompts']:,} prompts, {counts['prompt_tokens']:,} prompt tokens in {seconds:,.1f} engine seconds"
        + (f" ({counts['prompt_tokens'] / seconds:,.0f} tokens/s)" if seconds else ""),
        flush=True,
    )
