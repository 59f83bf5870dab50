"""Turn the judge's evidence and people's labels into positives and hard negatives."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow import schema
from winnow.corpora.store import corpus_hash, labels_hash, read_copies, read_split
from winnow.errors import DataError
from winnow.files import hash_file
from winnow.labels.calibration import Calibration, calibrate_on, draw_queries
from winnow.labels.config import LabelConfig
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex, evidence_in, settings_without_effect
from winnow.labels.labeller import LabelCounts, Labeller
from winnow.labels.pools import POOL_COLUMNS, PooledQuery, pooled_queries
from winnow.records import TrainingExample
from winnow.steps import annotate, pool
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "5"
EXAMPLES = "training_examples.parquet"
_BLOCK = 1024
"""Queries that are labelled, and stored, together."""


@dataclass(frozen=True)
class _Judged:
    """What is labelled. Of pools and judgments only the columns that labels need are read."""

    pools: Path
    statuses: Mapping[str, str]
    judgments: JudgmentIndex
    qrels: Mapping[str, Mapping[str, int]]
    """Also of passages outside the pools; a copy's are given to the passage that stands for it. Ingest let none through
    that is not in the corpus."""
    relevant_from: int

    def pool_batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self.pools) as file:
            yield from file.iter_batches(batch_size=_BLOCK, columns=POOL_COLUMNS)


def plan(config: RunConfig) -> StepPlan:
    """What ``label`` would compute for ``config``. Traces, which hold times, are not among its inputs."""
    judged = find(annotate.plan(config)).directory
    inputs = {name: hash_file(judged / name) for name in (annotate.JUDGMENTS, annotate.JUDGED_QUERIES)}
    inputs[pool.POOLS] = find(pool.plan(config)).content_hash
    texts = ingested(config).directory
    inputs["qrels"] = labels_hash(texts, "train")
    # Its copies say which labels are of one passage.
    inputs["corpus"] = corpus_hash(texts, read_split(texts, "train").corpus)
    settings = {**config.label.science(), "judge_gives": sorted(config.annotate.judge.gives), "seed": config.seed}
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
    evidence = evidence_in(config.annotate.judge.gives, config.label)
    for note in settings_without_effect(config.annotate.judge.gives, config.label):
        print(f"label: {note}", flush=True)
    calibration = _calibration(config, judged)
    settings = config.label if calibration is None else _with_threshold(config.label, calibration)
    labeller = Labeller(settings, evidence, relevant_from=judged.relevant_from, seed=config.seed)
    labels = _write(labeller, judged, context)
    num_queries = labels.num_examples + labels.left_out.total()
    if not labels.num_examples:
        raise DataError(
            f"none of {num_queries:,} queries got a positive ({dict(labels.left_out)}); "
            f"look at the counts of `winnow annotate`, or loosen the thresholds in the `label` section"
        )
    counts = _counts(labels)
    if calibration is not None:
        counts["calibration"] = asdict(calibration)
    counts["positives_by"] = evidence
    _log(config, counts, num_queries, context)
    _report(counts, num_queries=num_queries)
    return counts


def _read(config: RunConfig) -> _Judged:
    judged = find(annotate.plan(config)).directory
    queries = pq.read_table(judged / annotate.JUDGED_QUERIES, columns=["query_id", "status"])
    texts = ingested(config).directory
    split = read_split(texts, "train")
    copies = read_copies(texts, split.corpus)
    return _Judged(
        pools=find(pool.plan(config)).directory / pool.POOLS,
        statuses=dict(zip(queries["query_id"].to_pylist(), queries["status"].to_pylist(), strict=True)),
        judgments=JudgmentIndex(pq.read_table(judged / annotate.JUDGMENTS, columns=JUDGMENT_COLUMNS)),
        qrels={query_id: copies.grades(grades) for query_id, grades in split.qrels.items()},
        relevant_from=split.relevant_from,
    )


def _calibration(config: RunConfig, judged: _Judged) -> Calibration | None:
    """The threshold, where one is to be chosen and the positives are taken from scores."""
    by_score = evidence_in(config.annotate.judge.gives, config.label) == "score"
    if config.label.min_score != "calibrated" or not by_score:
        return None
    ok = (query for query in pooled_queries(judged.pool_batches()) if judged.statuses.get(query.query_id) == "ok")
    queries = draw_queries(ok, config.label.calibration_queries, relevant_from=judged.relevant_from, seed=config.seed)
    return calibrate_on(queries, judged.judgments.of)


def _with_threshold(settings: LabelConfig, calibration: Calibration) -> LabelConfig:
    return settings.model_copy(update={"min_score": calibration.threshold})


def _write(labeller: Labeller, judged: _Judged, context: StepContext) -> LabelCounts:
    path = context.directory / EXAMPLES
    with schema.writing_dataset(path, schema.TRAINING_EXAMPLES, fingerprint=context.fingerprint) as append:
        for batch in judged.pool_batches():
            labelled = (_label(labeller, query, judged) for query in pooled_queries([batch]))
            append(schema.to_table(filter(None, labelled), schema.TRAINING_EXAMPLES))
    return labeller.counts


def _label(labeller: Labeller, query: PooledQuery, judged: _Judged) -> TrainingExample | None:
    name = query.query_id
    grades = judged.qrels.get(name, {})
    return labeller.label(query, judged.statuses.get(name, "not_judged"), judged.judgments.of(name), grades)


def _counts(labels: LabelCounts) -> dict[str, Any]:
    return {
        "examples": labels.num_examples,
        "only_human_positives": labels.num_only_human,
        "positives": {source: labels.sources[source] for source in ("llm", "human", "both")},
        "negatives": labels.num_negatives,
        "without_negatives": labels.num_without_negatives,
        "withheld": labels.num_withheld,
        "negatives_overruled": labels.num_kept_out,
        "positives_overruled": labels.num_vetoed,
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
    for group in ("positives", "calibration"):
        numbers.update({f"{group}.{name}": value for name, value in counts.get(group, {}).items()})
    context.journal.metrics({f"label.{name}": value for name, value in numbers.items()})


def _report(counts: Mapping[str, Any], *, num_queries: int) -> None:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in counts["left_out"].items()) or "none"
    print(
        f"label: {counts['examples']:,} of {num_queries:,} queries have a positive (left out: {left_out}); "
        f"{counts['negatives'] / counts['examples']:.1f} hard negatives per query, "
        f"{counts['without_negatives']:,} queries without one; {counts['withheld'] / counts['examples']:.1f} passages "
        f"withheld per query",
        flush=True,
    )
    _report_positives(counts)
    if found := counts.get("calibration"):
        print(
            f"label: min_score {found['threshold']:.4g} was calibrated on {found['num_queries']:,} queries with human "
            f"positives: F1 {found['f1']:.3f}, precision {found['precision']:.3f}, recall {found['recall']:.3f}",
            flush=True,
        )
    if counts["negatives_overruled"] or counts["positives_overruled"]:
        print(
            f"label: where human labels are used, they overrule {counts['positives_overruled']:,} positives and "
            f"{counts['negatives_overruled']:,} hard negatives of the judge",
            flush=True,
        )


def _report_positives(counts: Mapping[str, Any]) -> None:
    by, only_human = counts["positives"], counts["only_human_positives"]
    num_judged = counts["examples"] - only_human
    if num_judged:
        histogram = ", ".join(f"{count:,} with {number}" for number, count in counts["positives_per_query"].items())
        mean = (by["llm"] + by["both"]) / num_judged
        print(f"label: by {counts['positives_by']} {mean:.2f} positives per query ({histogram})", flush=True)
    print(
        f"label: positives named by the judge alone {by['llm']:,}, by people alone {by['human']:,}, "
        f"by both {by['both']:,}; {only_human:,} queries have only human ones",
        flush=True,
    )
