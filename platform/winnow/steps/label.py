"""Turn the judge's evidence into positives and hard negatives."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow import schema
from winnow.errors import DataError
from winnow.files import hash_file
from winnow.labels.calibration import Calibration, calibrate_on, draw_queries
from winnow.labels.config import LabelConfig
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex, check_evidence, evidence_in
from winnow.labels.from_judgments import LabelCounts, Labeller
from winnow.labels.pools import POOL_COLUMNS, pooled_queries
from winnow.steps import annotate, pool
from winnow.steps.config import RunConfig
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "2"
EXAMPLES = "training_examples.parquet"
_BLOCK = 1024
"""Queries that are labelled, and stored, together."""


@dataclass(frozen=True)
class _Judged:
    """What is labelled. Of pools and judgments only the columns that labels need are read."""

    pools: Path
    statuses: Mapping[str, str]
    judgments: JudgmentIndex

    def pool_batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self.pools) as file:
            yield from file.iter_batches(batch_size=_BLOCK, columns=POOL_COLUMNS)


def plan(config: RunConfig) -> StepPlan:
    """What ``label`` would compute for ``config``. Traces, which hold times, are not among its inputs."""
    judged = find(annotate.plan(config)).directory
    inputs = {name: hash_file(judged / name) for name in (annotate.JUDGMENTS, annotate.JUDGED_QUERIES)}
    inputs[pool.POOLS] = find(pool.plan(config)).content_hash
    settings = config.label.science()
    if config.label.min_score == "calibrated":
        settings["seed"] = config.seed
    return StepPlan("label", STEP_VERSION, config.output, settings, inputs)


def label(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The training examples. Raises ``DataError`` when no query got a positive."""
    return produce(plan(config), partial(_build, config), options)


def label_settings(config: RunConfig) -> LabelConfig:
    """The ``label`` section with the chosen threshold in place of ``calibrated``. Raises ``DataError``."""
    if config.label.min_score != "calibrated":
        return config.label
    calibration = _calibration(config, _read(config))
    return config.label if calibration is None else _with_threshold(config.label, calibration)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    judged = _read(config)
    for note in check_evidence(judged.judgments.held, config.label):
        print(f"label: {note}", flush=True)
    calibration = _calibration(config, judged)
    settings = config.label if calibration is None else _with_threshold(config.label, calibration)
    labels = _write(judged, settings, context)
    num_queries = labels.num_examples + labels.left_out.total()
    if not labels.num_examples:
        raise DataError(
            f"none of {num_queries:,} queries got a positive ({dict(labels.left_out)}); "
            f"look at the counts of `winnow annotate`, or loosen the thresholds in the `label` section"
        )
    counts = _counts(labels)
    if calibration is not None:
        counts["calibration"] = asdict(calibration)
    counts["positives_by"] = evidence_in(judged.judgments.held, config.label)
    _log(config, counts, num_queries, context)
    _report(counts, num_queries=num_queries)
    return counts


def _read(config: RunConfig) -> _Judged:
    judged = find(annotate.plan(config)).directory
    queries = pq.read_table(judged / annotate.JUDGED_QUERIES, columns=["query_id", "status"])
    return _Judged(
        pools=find(pool.plan(config)).directory / pool.POOLS,
        statuses=dict(zip(queries["query_id"].to_pylist(), queries["status"].to_pylist(), strict=True)),
        judgments=JudgmentIndex(pq.read_table(judged / annotate.JUDGMENTS, columns=JUDGMENT_COLUMNS)),
    )


def _calibration(config: RunConfig, judged: _Judged) -> Calibration | None:
    """The threshold, where one is to be chosen and the positives are taken from scores."""
    by_score = evidence_in(judged.judgments.held, config.label) == "score"
    if config.label.min_score != "calibrated" or not by_score:
        return None
    ok = (query for query in pooled_queries(judged.pool_batches()) if judged.statuses.get(query.query_id) == "ok")
    queries = draw_queries(ok, config.label.calibration_queries, seed=config.seed)
    return calibrate_on(queries, judged.judgments.of)


def _with_threshold(settings: LabelConfig, calibration: Calibration) -> LabelConfig:
    return settings.model_copy(update={"min_score": calibration.threshold})


def _write(judged: _Judged, settings: LabelConfig, context: StepContext) -> LabelCounts:
    labeller = Labeller(settings)
    path = context.directory / EXAMPLES
    with schema.writing_dataset(path, schema.TRAINING_EXAMPLES, fingerprint=context.fingerprint) as append:
        for batch in judged.pool_batches():
            labelled = (
                labeller.label(
                    query, judged.statuses.get(query.query_id, "not_judged"), judged.judgments.of(query.query_id)
                )
                for query in pooled_queries([batch])
            )
            append(schema.to_table(filter(None, labelled), schema.TRAINING_EXAMPLES))
    return labeller.counts


def _counts(labels: LabelCounts) -> dict[str, Any]:
    return {
        "examples": labels.num_examples,
        "positives": sum(number * count for number, count in labels.num_positives.items()),
        "negatives": labels.num_negatives,
        "without_negatives": labels.num_without_negatives,
        "human_positives_kept_out": labels.num_kept_out,
        "positives_per_query": {str(number): count for number, count in sorted(labels.num_positives.items())},
        "left_out": dict(labels.left_out),
    }


def _log(config: RunConfig, counts: Mapping[str, Any], num_queries: int, context: StepContext) -> None:
    judged = find(annotate.plan(config))
    context.journal.params({f"label.{name}": value for name, value in config.label.science().items()})
    context.journal.dataset(
        annotate.JUDGMENTS, path=judged.directory, digest=judged.content_hash, context="labels", num_rows=num_queries
    )
    numbers = {name: value for name, value in counts.items() if isinstance(value, int)}
    numbers.update({f"calibration.{name}": value for name, value in counts.get("calibration", {}).items()})
    context.journal.metrics({f"label.{name}": value for name, value in numbers.items()})


def _report(counts: Mapping[str, Any], *, num_queries: int) -> None:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in counts["left_out"].items()) or "none"
    histogram = ", ".join(f"{count:,} with {number}" for number, count in counts["positives_per_query"].items())
    print(
        f"label: {counts['examples']:,} of {num_queries:,} queries labelled by {counts['positives_by']} "
        f"(left out: {left_out}); "
        f"{counts['positives'] / counts['examples']:.2f} positives per query ({histogram}), "
        f"{counts['negatives'] / counts['examples']:.1f} hard negatives, "
        f"{counts['without_negatives']:,} queries without one",
        flush=True,
    )
    if found := counts.get("calibration"):
        print(
            f"label: min_score {found['threshold']:.4g} was calibrated on {found['num_queries']:,} queries with human "
            f"positives: F1 {found['f1']:.3f}, precision {found['precision']:.3f}, recall {found['recall']:.3f}",
            flush=True,
        )
    if kept_out := counts["human_positives_kept_out"]:
        print(f"label: {kept_out:,} human positives were kept out of the hard negatives", flush=True)
