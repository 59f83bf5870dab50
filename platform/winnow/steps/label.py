"""Turn the judge's evidence into positives and hard negatives."""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from winnow import schema
from winnow.errors import DataError
from winnow.files import hash_file
from winnow.labels.from_judgments import Labelling, label_queries
from winnow.records import Judgment, Query
from winnow.steps import annotate, pool
from winnow.steps.config import RunConfig
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "1"
EXAMPLES = "training_examples.parquet"


def plan(config: RunConfig) -> StepPlan:
    """What ``label`` would compute for ``config``. Traces, which hold times, are not among its inputs."""
    judged = find(annotate.plan(config)).directory
    inputs = {name: hash_file(judged / name) for name in (annotate.JUDGMENTS, annotate.JUDGED_QUERIES)}
    inputs[pool.POOLS] = find(pool.plan(config)).content_hash
    return StepPlan("label", STEP_VERSION, config.output, config.label.science(), inputs)


def label(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The training examples. Raises ``DataError`` when no query got a positive."""
    return produce(plan(config), partial(_build, config), options)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    judged = find(annotate.plan(config))
    queries = _read_queries(find(pool.plan(config)).directory / pool.POOLS)
    labelling = label_queries(
        queries,
        _read_statuses(judged.directory / annotate.JUDGED_QUERIES),
        _read_judgments(judged.directory / annotate.JUDGMENTS),
        config.label,
    )
    if not labelling.examples:
        raise DataError(
            f"none of {len(queries):,} queries got a positive ({dict(labelling.left_out)}); "
            f"look at the counts of `winnow annotate`, or loosen the thresholds in the `label` section"
        )
    table = schema.to_table(labelling.examples, schema.TRAINING_EXAMPLES)
    schema.write_dataset(context.directory / EXAMPLES, table, fingerprint=context.fingerprint)
    counts = _counts(labelling)
    context.journal.params({f"label.{name}": value for name, value in config.label.science().items()})
    context.journal.dataset(
        annotate.JUDGMENTS, path=judged.directory, digest=judged.content_hash, context="labels", num_rows=len(queries)
    )
    context.journal.metrics({f"label.{name}": value for name, value in counts.items() if isinstance(value, int)})
    _report(counts, num_queries=len(queries))
    return counts


def _read_queries(pools: Path) -> list[Query]:
    rows = pq.read_table(pools, columns=["query_id", "query"]).to_pylist()
    return [Query(row["query_id"], row["query"]) for row in rows]


def _read_statuses(path: Path) -> dict[str, str]:
    rows = schema.read_dataset(path, schema.JUDGED_QUERIES).to_pylist()
    return {row["query_id"]: row["status"] for row in rows}


def _read_judgments(path: Path) -> dict[str, list[Judgment]]:
    judgments: dict[str, list[Judgment]] = defaultdict(list)
    for row in schema.read_dataset(path, schema.JUDGMENTS).to_pylist():
        judgments[row["query_id"]].append(Judgment(row["passage_id"], utility_score=row["utility_score"]))
    return judgments


def _counts(labelling: Labelling) -> dict[str, Any]:
    return {
        "examples": len(labelling.examples),
        "positives": sum(len(example.positives) for example in labelling.examples),
        "negatives": sum(len(example.negatives) for example in labelling.examples),
        "without_negatives": labelling.num_without_negatives,
        "positives_per_query": {str(number): count for number, count in labelling.num_positives.items()},
        "left_out": dict(labelling.left_out),
    }


def _report(counts: Mapping[str, Any], *, num_queries: int) -> None:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in counts["left_out"].items()) or "none"
    histogram = ", ".join(f"{count:,} with {number}" for number, count in counts["positives_per_query"].items())
    print(
        f"label: {counts['examples']:,} of {num_queries:,} queries labelled (left out: {left_out}); "
        f"{counts['positives'] / counts['examples']:.2f} positives per query ({histogram}), "
        f"{counts['negatives'] / counts['examples']:.1f} hard negatives, "
        f"{counts['without_negatives']:,} queries without one",
        flush=True,
    )
