"""Measure BM25, the encoder before training, the trained retriever, and it with BM25, on the same questions."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from winnow import schema
from winnow.cluster.encoding import embed_corpus
from winnow.cluster.runtime import ray_session
from winnow.config import fingerprint
from winnow.corpora.store import (
    MAIN_CORPUS,
    Split,
    collection_names,
    corpus_hash,
    has_dev,
    passages_path,
    read_passages,
    read_split,
)
from winnow.errors import DataError
from winnow.evaluation.measures import Rankings, Values, answerable, measure_rankings
from winnow.evaluation.plots import plot_report
from winnow.evaluation.tables import (
    BASELINE,
    HYBRID,
    LEXICAL,
    TRAINED,
    CollectionReport,
    render_markdown,
    render_notes,
    render_terminal,
    report_collection,
    report_from_json,
    report_to_json,
)
from winnow.files import read_json, replacing, write_json
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import build_encoder
from winnow.models import content_hash
from winnow.progress import progress
from winnow.records import Query, ScoredPassage
from winnow.retrieval.bm25 import BM25
from winnow.retrieval.dense import ExactSearch
from winnow.retrieval.embeddings import read_embeddings
from winnow.retrieval.fusion import fuse_hits
from winnow.retrieval.retriever import load_retriever
from winnow.retrieval.version_files import ENCODER
from winnow.steps import index
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "5"
REPORTS = "table.json"
TABLE = "table.md"
PER_QUERY = "per_query.parquet"
DEV = "dev"
Search = Callable[[Sequence[str]], list[list[ScoredPassage]]]
_BLOCK = 256
"""Questions that are searched for, and counted, at a time."""

PER_QUERY_VALUES = pa.schema(
    [
        pa.field("collection", pa.string(), nullable=False),
        pa.field("system", pa.string(), nullable=False),
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("measure", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)


def plan(config: RunConfig) -> StepPlan:
    """What ``evaluate`` would compute for ``config``."""
    inputs = {
        "texts": ingested(config).content_hash,
        "retriever": find(index.plan(config)).content_hash,
        "encoder": content_hash(config.encoder.locate()),
    }
    settings = {
        "evaluate": config.evaluate.science(),
        "encoder": config.encoder.science(),
        "fusion": config.serve.fusion.science(),
        "language": config.language,
    }
    return StepPlan("evaluate", STEP_VERSION, config.output, settings, inputs)


def evaluate(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The comparison on every test collection and on dev; the retriever version is put up for the registry."""
    return produce(plan(config), partial(_build, config), options)


def print_report(result: StepResult) -> None:
    """Print the tables of an evaluation and what must be known beside them."""
    console = Console(soft_wrap=True, highlight=False)
    for fields in read_json(result.directory / REPORTS):
        report = report_from_json(fields)
        console.print()
        console.print(render_terminal(report))
        for note in render_notes(report):
            console.print(f"- {note}", markup=False)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    inputs = ingested(config).directory
    splits = _splits(inputs)
    with ray_session(config.cluster):
        systems = _Systems(config, inputs, find(index.plan(config)).directory)
        values = {split.name: _measure(config, split, systems.rank(split)) for split in splits}
    reports = [_report(config, split, values[split.name]) for split in splits]
    _write(context, values, reports)
    _record(config, context, splits, reports)
    _register(config, context, splits, reports)
    return {
        report.collection: {"questions": report.num_queries, "unjudged": report.num_unjudged, **report.means}
        for report in reports
    }


def _measure(config: RunConfig, split: Split, rankings: Mapping[str, Rankings]) -> dict[str, Values]:
    return {
        system: measure_rankings(ranked, split.qrels, config.evaluate.measures, relevant_from=split.relevant_from)
        for system, ranked in rankings.items()
    }


class _Systems:
    """All systems. Each is loaded once and then ranks every split."""

    def __init__(self, config: RunConfig, inputs: Path, retriever: Path) -> None:
        self._config = config
        self._inputs = inputs
        self._trained = retriever / ENCODER
        self._retriever = load_retriever(retriever, fusion=config.serve.fusion)
        self._bm25: dict[str, BM25] = {}

    def rank(self, split: Split) -> dict[str, Rankings]:
        """Passage ids for every answerable question of ``split``, by system, as deep as the measures look."""
        judged = _answerable(split)
        queries = [query for query in split.queries if query.query_id in judged]
        depth = self._config.evaluate.depth
        systems: dict[str, Callable[[str, int], Search]] = {
            LEXICAL: self._lexical,
            BASELINE: partial(self._exact, self._config.encoder),
            TRAINED: self._trained_one,
        }
        if "hybrid" in self._retriever.modes:
            systems[HYBRID] = self._both
        # One at a time: each may hold the vectors of the whole corpus.
        return {name: _ranked(name, split, queries, load(split.corpus, depth)) for name, load in systems.items()}

    def _lexical(self, corpus: str, depth: int) -> Search:
        if corpus not in self._bm25:
            self._bm25[corpus] = BM25.build(read_passages(self._inputs, corpus), self._config.language)
        return partial(self._bm25[corpus].search, k=depth)

    def _trained_one(self, corpus: str, depth: int) -> Search:
        """The version as it would be served; on another corpus than its own, its encoder without an index."""
        if corpus == MAIN_CORPUS:
            return partial(self._retriever.search, k=depth)
        return self._exact(self._config.encoder.at(self._trained), corpus, depth)

    def _both(self, corpus: str, depth: int) -> Search:
        """As ``_trained_one``, united with BM25's results."""
        if corpus == MAIN_CORPUS:
            return partial(self._retriever.search, k=depth, mode="hybrid")
        fusion = self._config.serve.fusion
        searches = [load(corpus, max(depth, fusion.depth)) for load in (self._trained_one, self._lexical)]

        def search(texts: Sequence[str]) -> list[list[ScoredPassage]]:
            found = zip(*(each(texts) for each in searches), strict=True)
            return [fuse_hits(*both, config=fusion, k=depth) for both in found]

        return search

    def _exact(self, encoder_config: EncoderConfig, corpus: str, depth: int) -> Search:
        passages = passages_path(self._inputs, corpus)
        path = embed_corpus(encoder_config, passages, output=self._config.output, cluster=self._config.cluster)
        encoder = build_encoder(encoder_config)
        exact = ExactSearch(*read_embeddings(path), device=self._config.cluster.search_device)
        return lambda texts: exact.search(encoder.encode(texts, side="query"), k=depth)


def _ranked(system: str, split: Split, queries: Sequence[Query], search: Search) -> Rankings:
    hits: list[list[ScoredPassage]] = []
    with progress(len(queries), label=f"evaluate {split.name}: {system}", unit="questions") as bar:
        for start in range(0, len(queries), _BLOCK):
            found = search([query.query for query in queries[start : start + _BLOCK]])
            hits += found
            bar.advance(len(found))
    return _as_rankings(queries, hits)


def _as_rankings(queries: Sequence[Query], hits: Sequence[Sequence[ScoredPassage]]) -> Rankings:
    return {
        query.query_id: [passage.passage_id for passage in found] for query, found in zip(queries, hits, strict=True)
    }


def _splits(inputs: Path) -> list[Split]:
    """Dev, where there is one, and the test collections. Raises ``DataError`` if one of them measures nothing."""
    names = [*([DEV] if has_dev(inputs) else []), *collection_names(inputs)]
    if not names:
        raise DataError("there is nothing to measure; name judged questions under `data.test` or `data.dev`")
    splits = [read_split(inputs, name) for name in names]
    for split in splits:
        if not _answerable(split):
            raise DataError(
                f"no question of {split.name!r} has a useful passage in its qrels; "
                f"see the quarantine of the ingest step for pairs that did not join, or leave it out"
            )
    return splits


def _report(config: RunConfig, split: Split, values: Mapping[str, Values]) -> CollectionReport:
    num_unjudged = len(split.queries) - len(_answerable(split))
    return report_collection(split.name, values, config.evaluate, num_unjudged=num_unjudged)


def _write(
    context: StepContext, values: Mapping[str, Mapping[str, Values]], reports: Sequence[CollectionReport]
) -> None:
    """Values per question, tables and plots, all of them artifacts of the run."""
    rows = [
        {"collection": collection, "system": system, "query_id": query_id, "measure": measure, "value": value}
        for collection, by_system in values.items()
        for system, by_measure in by_system.items()
        for measure, by_query in by_measure.items()
        for query_id, value in by_query.items()
    ]
    directory = context.directory
    table = schema.to_table(rows, PER_QUERY_VALUES)
    schema.write_dataset(directory / PER_QUERY, table, fingerprint=context.fingerprint)
    write_json(directory / REPORTS, [report_to_json(report) for report in reports])
    with replacing(directory / TABLE) as temporary:
        temporary.write_text("\n".join(map(render_markdown, reports)), encoding="utf-8")
    names = [PER_QUERY, REPORTS, TABLE]
    for report in reports:
        plot_report(directory / f"{report.collection}.png", report, values[report.collection])
        names.append(f"{report.collection}.png")
    for name in names:
        context.journal.artifact(name)


def _record(
    config: RunConfig, context: StepContext, splits: Sequence[Split], reports: Sequence[CollectionReport]
) -> None:
    context.journal.params({"evaluate.primary": config.evaluate.primary})
    for split, report in zip(splits, reports, strict=True):
        folder = ingested(config).directory / "splits" / split.name
        digest = _digest(config, split)
        context.journal.dataset(
            split.name, path=folder, digest=digest, context="evaluation", num_rows=report.num_queries
        )
        context.journal.metrics(
            {
                f"{report.collection}.{system}.{name}": value
                for system, means in report.means.items()
                for name, value in means.items()
            }
        )
        context.journal.metrics(
            {
                f"{report.collection}.p.{row.system}.vs.{row.baseline}.{name}": test.p_value
                for row in report.comparisons
                for name, test in row.tests.items()
                if test.p_value is not None
            }
        )
        context.journal.headline(
            {f"{report.collection}.{name}": value for name, value in report.means[TRAINED].items()}
        )


def _register(
    config: RunConfig, context: StepContext, splits: Sequence[Split], reports: Sequence[CollectionReport]
) -> None:
    """Put the version up for the registry, with its value on dev alone: no choice is made on test."""
    retriever = find(index.plan(config))
    measured = {split.name: (split, report) for split, report in zip(splits, reports, strict=True)}
    dev_value = dev_digest = None
    if DEV in measured:
        split, report = measured[DEV]
        dev_value, dev_digest = report.means[TRAINED][config.evaluate.primary], _digest(config, split)
    context.journal.retriever_version(
        retriever.directory,
        content_hash=retriever.content_hash,
        measure=config.evaluate.primary,
        dev_value=dev_value,
        dev_digest=dev_digest,
    )


def _digest(config: RunConfig, split: Split) -> str:
    """Equal for equal questions, judged alike, over an equal corpus: values can then be compared between runs."""
    texts = {query.query_id: query.query for query in split.queries}
    judged = {query_id: dict(grades) for query_id, grades in _answerable(split).items()}
    return fingerprint(texts, judged, split.relevant_from, corpus_hash(ingested(config).directory, split.corpus))


def _answerable(split: Split) -> dict[str, Mapping[str, int]]:
    return answerable(split.qrels, relevant_from=split.relevant_from)
