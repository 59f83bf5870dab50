"""Say whether the judge's labels can be trusted: against people, against another judge, against its biases."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter
from rich.console import Console

from winnow import schema
from winnow.audit.baselines import dense_scores, documents_of, lexical_scores
from winnow.audit.biases import length_bias, position_bias
from winnow.audit.browsing import Known, choose_queries, describe_queries, disagreements
from winnow.audit.judges import SecondOpinion, compare_judges, second_opinion
from winnow.audit.lists import DEPTH, chosen_by_others, compare_with_lists
from winnow.audit.page import Browsed, write_page
from winnow.audit.pairs import PAIR_COLUMNS, JudgedPairs, Reading, collect_pairs, evidence_of
from winnow.audit.people import Baseline, HumanAgreement, compare_with_people, with_human_positive
from winnow.audit.plots import plot_audit
from winnow.audit.reordering import Reordering, compare_readings, draw_queries, in_another_order, positions_in
from winnow.audit.report import AuditReport, count_queries, main_numbers, report_from_json, report_to_json
from winnow.audit.tables import render_markdown, render_terminal
from winnow.cluster.encoding import embed_corpus
from winnow.cluster.runtime import ray_session
from winnow.config import fingerprint
from winnow.corpora.store import corpus_hash, passages_path, read_copies, read_passages, read_split
from winnow.engines import build_engine
from winnow.errors import ConfigError, DataError
from winnow.evaluation.measures import answerable
from winnow.files import hash_file, read_json, replacing, write_json
from winnow.judging.build import EngineFactory
from winnow.judging.config import JudgeConfig
from winnow.judging.rows import pools_of
from winnow.labels.config import LabelConfig
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex, evidence_in
from winnow.labels.from_judgments import split_pool
from winnow.modeling.encoder import build_encoder
from winnow.models import content_hash
from winnow.pooling.merge import ListedQuery
from winnow.pooling.order import PoolOrder
from winnow.records import CandidatePool, Judgment
from winnow.retrieval.embeddings import read_embeddings
from winnow.steps import annotate, pool
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.steps.label import label_settings
from winnow.steps.workspace import RECORD, StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "5"
REPORT = "audit.json"
TABLE = "table.md"
PAGE = "audit.html"
REORDERED = "reordered_pools.parquet"
_HEADLINE = ("precision", "recall", "positives_per_query", "kappa", "auc.judge", "sibling_auc.judge")
_POOLS_PER_BATCH = 1024


@dataclass(frozen=True)
class _Judged:
    """What is audited."""

    pools: Path
    directory: Path
    """Of the ``annotate`` output."""
    queries: pa.Table
    pairs: JudgedPairs
    labels: LabelConfig
    """The label policy, its threshold chosen."""
    reading: Reading


@dataclass(frozen=True)
class _Opinions:
    """What else was said of the same pairs: by another judge, and by the same one in another order."""

    other: SecondOpinion | None
    other_id: str | None
    again: SecondOpinion | None
    reordering: Reordering | None


def plan(config: RunConfig) -> StepPlan:
    """What ``audit`` would compute for ``config``."""
    inputs = {
        pool.POOLS: find(pool.plan(config)).content_hash,
        "annotations": find(annotate.plan(config)).content_hash,
        "corpus": corpus_hash(ingested(config).directory),
        "encoder": content_hash(config.encoder.locate()),
    }
    if config.audit.against is not None:
        judgments = _other_judgments(config.audit.against)
        inputs["against"] = fingerprint(hash_file(judgments), sorted(evidence_given(config.audit.against)))
    settings = {
        "audit": config.audit.science(),
        "label": config.label.science(),
        "judge_gives": sorted(config.annotate.judge.gives),
        "encoder": config.encoder.science(),
        "language": config.language,
        "seed": config.seed,
    }
    return StepPlan("audit", STEP_VERSION, config.output, settings, inputs)


def audit(
    config: RunConfig, options: StepOptions = StepOptions(), *, build_engine: EngineFactory = build_engine
) -> StepResult:
    """The audit of the judge's labels. An engine is needed only where queries are judged in another order."""
    return produce(plan(config), partial(_build, config, build_engine), options)


def print_report(result: StepResult) -> None:
    """Print the tables of an audit, what they mean, and where the page lies."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(render_terminal(report_from_json(read_json(result.directory / REPORT))))
    console.print(f"- Query by query: {result.directory / PAGE}")


def reading_of(gives: Set[str], labels: LabelConfig, *, relevant_from: int, seed: int) -> Reading:
    """How the label policy reads a judge that ``gives`` these columns. Raises ``ConfigError`` if it cannot."""
    kind = evidence_in(gives, labels)

    def positives_of(order: PoolOrder, judgments: Sequence[Judgment]) -> set[str]:
        return {passage.passage_id for passage in split_pool(judgments, kind, labels, order).positives}

    return Reading(evidence_of(gives), positives_of, relevant_from, seed)


def _build(config: RunConfig, build_engine: EngineFactory, context: StepContext) -> Mapping[str, Any]:
    judged = _read(config)
    resampling = {"samples": config.audit.bootstrap_samples, "seed": config.seed}
    opinions = _opinions(config, judged, build_engine, context)
    qrels = _answerable(config)
    wanted = qrels.keys() & set(judged.pairs.query_ids)
    listed = pool.lists_again(config, wanted, depth=DEPTH) if wanted else {}
    record = find(annotate.plan(config)).summary
    traces = pq.read_table(judged.directory / annotate.TRACES, columns=["query_id", "window"])
    report = AuditReport(
        judge_id=record["judge_id"],
        labels=_policy(config, judged),
        queries=count_queries(judged.queries, traces, judged.pairs),
        people=_people(config, judged, listed),
        lists=compare_with_lists(judged.pairs, listed, qrels, relevant_from=judged.reading.relevant_from, **resampling),
        second_judge=None if opinions.other is None else compare_judges(opinions.other, **resampling),
        second_judge_id=opinions.other_id,
        positions=position_bias(judged.pairs, **resampling),
        reordering=opinions.reordering,
        lengths=length_bias(judged.pairs, **resampling),
        ledger=record["ledger"],
    )
    _write(context, report, _browsed(config, judged, opinions))
    _record(config, context, report)
    return {"statuses": report.queries.statuses, **main_numbers(report)}


def _read(config: RunConfig) -> _Judged:
    pools = find(pool.plan(config)).directory / pool.POOLS
    directory = find(annotate.plan(config)).directory
    queries = schema.read_dataset(directory / annotate.JUDGED_QUERIES, schema.JUDGED_QUERIES)
    judgments = _index(pq.read_table(directory / annotate.JUDGMENTS, columns=JUDGMENT_COLUMNS))
    relevant_from = read_split(ingested(config).directory, "train").relevant_from
    labels = label_settings(config) if len(judgments) else config.label
    reading = reading_of(config.annotate.judge.gives, labels, relevant_from=relevant_from, seed=config.seed)
    batches = pq.ParquetFile(pools).iter_batches(_POOLS_PER_BATCH, columns=PAIR_COLUMNS)
    ok = {query_id for query_id, status in _statuses(queries).items() if status == "ok"}
    pairs = collect_pairs(batches, ok, judgments, reading)
    return _Judged(pools, directory, queries, pairs, labels, reading)


def _index(judgments: pa.Table) -> JudgmentIndex:
    return JudgmentIndex(judgments.select(JUDGMENT_COLUMNS).sort_by("query_id"))


def _policy(config: RunConfig, judged: _Judged) -> dict[str, Any]:
    """The settings that make positives of this judge's evidence."""
    evidence, labels = evidence_in(config.annotate.judge.gives, judged.labels), judged.labels
    by_kind = {"rank": ["top_percent"], "score": ["max_drop", "min_score"]}
    settings = {name: getattr(labels, name) for name in by_kind.get(evidence, [])}
    return {"positives": evidence, "max_positives": labels.most_positives(evidence), **settings}


def _statuses(judged_queries: pa.Table) -> dict[str, str]:
    return dict(zip(judged_queries["query_id"].to_pylist(), judged_queries["status"].to_pylist(), strict=True))


def _answerable(config: RunConfig) -> dict[str, Mapping[str, int]]:
    """What people say of the passages of the training questions that have a relevant one; copies are one passage."""
    texts = ingested(config).directory
    split = read_split(texts, "train")
    copies = read_copies(texts, split.corpus)
    grades = {query_id: copies.grades(each) for query_id, each in split.qrels.items()}
    return answerable(grades, relevant_from=split.relevant_from)


def _people(config: RunConfig, judged: _Judged, listed: Mapping[str, ListedQuery]) -> HumanAgreement | None:
    pairs = with_human_positive(judged.pairs)
    if pairs.num_queries == 0:
        return None
    texts = ingested(config).directory
    passages = read_passages(texts)
    queries = _query_texts(judged.pools, pairs)
    scores = {
        "BM25": lexical_scores(passages, pairs, queries, config.language),
        "encoder": _encoder_scores(config, passages_path(texts), pairs, queries),
    }
    own = lists_behind(config)
    return compare_with_people(
        pairs,
        evidence=judged.reading.evidence,
        baselines={name: Baseline(scores[name], chosen_by_others(pairs, listed, own[name])) for name in scores},
        document_N=documents_of(passages, pairs),
        samples=config.audit.bootstrap_samples,
        seed=config.seed,
    )


def lists_behind(config: RunConfig) -> dict[str, set[str]]:
    """By scorer, the sources of pools that it made itself."""
    encoder = config.encoder.science()
    dense = [source for source in config.pool.sources if source.kind == "dense"]
    return {
        "BM25": {source.name for source in config.pool.sources if source.kind == "bm25"},
        "encoder": {source.name for source in dense if (source.encoder or config.encoder).science() == encoder},
    }


def _query_texts(pools: Path, pairs: JudgedPairs) -> list[str]:
    table = pq.read_table(pools, columns=["query_id", "query"])
    texts = dict(zip(table["query_id"].to_pylist(), table["query"].to_pylist(), strict=True))
    return [texts[query_id] for query_id in pairs.query_ids]


def _encoder_scores(
    config: RunConfig, passages: Path, pairs: JudgedPairs, queries: Sequence[str]
) -> NDArray[np.float64]:
    with ray_session(config.cluster):
        path = embed_corpus(config.encoder, passages, output=config.output, cluster=config.cluster)
    queries_QD = build_encoder(config.encoder).encode(queries, side="query")
    return dense_scores(*read_embeddings(path), queries_QD, pairs)


def _opinions(config: RunConfig, judged: _Judged, build_engine: EngineFactory, context: StepContext) -> _Opinions:
    other = other_id = again = reordering = None
    if config.audit.against is not None and config.label.min_score == "calibrated":
        raise ConfigError(
            "audit.against does not go with label.min_score: calibrated, as a threshold of one judge means nothing on "
            "another's scores; give label.min_score a number or leave it out for this audit"
        )
    if config.audit.against is not None:
        table = schema.read_dataset(_other_judgments(config.audit.against), schema.JUDGMENTS)
        other_id = ", ".join(sorted(table["judge_id"].unique().to_pylist()))
        reading = reading_of(
            evidence_given(config.audit.against),
            judged.labels,
            relevant_from=judged.reading.relevant_from,
            seed=config.seed,
        )
        other = second_opinion(judged.pairs, _index(table), reading)
    if config.audit.reorder_queries:
        pools = _reordered(config, judged)
        table = _judge_again(config, pools, build_engine, context)
        index = _index(table)
        again = second_opinion(judged.pairs, index, judged.reading)
        reordering = compare_readings(
            again,
            positions_in(pools, index, again.pairs),
            num_asked=len(pools),
            samples=config.audit.bootstrap_samples,
            seed=config.seed,
        )
    return _Opinions(other, other_id, again, reordering)


def _other_judgments(directory: Path) -> Path:
    path = directory / annotate.JUDGMENTS
    if not path.is_file() or not (directory / RECORD).is_file():
        raise DataError(
            f"audit.against: there is no {str(path)!r} with a {RECORD} beside it; name the directory of a finished "
            f"`annotate` output"
        )
    return path


def evidence_given(directory: Path) -> Set[str]:
    """What the judge of another ``annotate`` output gives, by the configuration in its record. Raises ``DataError``."""
    judge = read_json(_other_judgments(directory).with_name(RECORD))["settings"]["judge"]
    # Only what decides it, so that an output of another version can be compared, too.
    settings = {name: judge[name] for name in ("kind", "verdict") if name in judge}
    return TypeAdapter(JudgeConfig).validate_python(settings).gives


def _reordered(config: RunConfig, judged: _Judged) -> list[CandidatePool]:
    drawn = draw_queries(judged.pairs, config.audit.reorder_queries, seed=config.seed)
    pools = pools_of(_rows_of(judged.pools, drawn, schema.CANDIDATE_POOLS))
    return [in_another_order(each, seed=config.seed) for each in pools]


def _judge_again(
    config: RunConfig, pools: Sequence[CandidatePool], build_engine: EngineFactory, context: StepContext
) -> pa.Table:
    """The judgments of ``pools``, which are kept with the audit; what the judge has said before is not asked again."""
    rows = [{**asdict(each), "pool_id": each.pool_id} for each in pools]
    table = schema.to_table(rows, schema.CANDIDATE_POOLS)
    path = schema.write_dataset(context.directory / REORDERED, table, fingerprint=context.fingerprint)
    return annotate.judge_again(config, path, build_engine=build_engine)


def _browsed(config: RunConfig, judged: _Judged, opinions: _Opinions) -> Browsed:
    statuses = _statuses(judged.queries)
    marks = disagreements(judged.pairs, opinions.other, opinions.again)
    chosen = choose_queries(statuses, marks, limit=config.audit.page_queries, seed=config.seed)
    known = Known(
        pools=_rows_of(judged.pools, chosen, schema.CANDIDATE_POOLS),
        judged_queries=_rows_of(judged.directory / annotate.JUDGED_QUERIES, chosen, schema.JUDGED_QUERIES),
        judgments=_rows_of(judged.directory / annotate.JUDGMENTS, chosen, schema.JUDGMENTS),
        traces=_rows_of(judged.directory / annotate.TRACES, chosen, schema.JUDGE_TRACES),
        positives=judged.pairs.positives(chosen),
        others={} if opinions.other is None else opinions.other.labels(chosen),
    )
    return Browsed(
        describe_queries(chosen, known, marks),
        num_queries=len(statuses),
        num_failed=sum(status != "ok" for status in statuses.values()),
        num_disputed=len(marks),
    )


def _rows_of(path: Path, query_ids: Sequence[str], columns: pa.Schema) -> pa.Table:
    table = pq.read_table(path, filters=[("query_id", "in", query_ids)]) if query_ids else columns.empty_table()
    return schema.check_schema(table, columns, where=str(path))


def _write(context: StepContext, report: AuditReport, browsed: Browsed) -> None:
    """The report, its table, pictures and page, all of them artifacts of the run."""
    directory = context.directory
    write_json(directory / REPORT, report_to_json(report))
    with replacing(directory / TABLE) as temporary:
        temporary.write_text(render_markdown(report), encoding="utf-8")
    pictures = plot_audit(directory, report)
    write_page(directory / PAGE, report, browsed, pictures)
    for name in (REPORT, TABLE, PAGE, *(picture.name for picture in pictures)):
        context.journal.artifact(name)


def _record(config: RunConfig, context: StepContext, report: AuditReport) -> None:
    judged = find(annotate.plan(config))
    context.journal.params({"audit.judge_id": report.judge_id})
    context.journal.dataset(
        annotate.JUDGMENTS,
        path=judged.directory,
        digest=judged.content_hash,
        context="audit",
        num_rows=report.queries.num_pairs,
    )
    numbers = main_numbers(report)
    context.journal.metrics({f"audit.{name}": value for name, value in numbers.items()})
    context.journal.headline({f"audit.{name}": numbers[name] for name in _HEADLINE if name in numbers})
