"""Candidate pools: the passages that each training question will be judged on."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from winnow import schema
from winnow.cluster.encoding import embed_corpus
from winnow.cluster.runtime import ray_session
from winnow.corpora.copies import Copies
from winnow.corpora.raw import REASONS
from winnow.corpora.store import (
    Split,
    corpus_hash,
    labels_hash,
    passages_path,
    read_copies,
    read_passages,
    read_split,
    split_hash,
)
from winnow.corpora.trec_run import TrecRun, scan_run
from winnow.errors import ConfigError, DataError
from winnow.files import read_json, replacing, write_json
from winnow.grades import relevant
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import build_encoder
from winnow.models import content_hash
from winnow.pooling.config import DenseSourceConfig, PoolConfig, SourceConfig, TrecRunSourceConfig
from winnow.pooling.merge import ListedQuery, RankedList, best_first, merge_ranked_lists
from winnow.pooling.report import NO_HUMAN_POSITIVES, plot_recall, render_counts, render_recall
from winnow.pooling.statistics import PoolCounter, PoolStatistics, statistics_from_json, statistics_to_json
from winnow.progress import progress
from winnow.records import CandidatePool, Passage, Query, RejectedRow, ScoredPassage
from winnow.retrieval.bm25 import BM25
from winnow.retrieval.dense import ExactSearch
from winnow.retrieval.embeddings import read_embeddings
from winnow.steps.config import RunConfig
from winnow.steps.ingest import hash_input, ingested
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "6"
POOLS = "candidate_pools.parquet"
STATISTICS = "pool_stats.json"
PLOT = "recall.png"
QUARANTINE = "quarantine.jsonl"
Ranker = Callable[[Sequence[Query]], list[list[ScoredPassage]]]
Reject = Callable[[RejectedRow], None]
_BLOCK = 256
"""Queries whose ranked lists are held at a time, and pools in a row group."""


def plan(config: RunConfig) -> StepPlan:
    """What ``pool`` would compute for ``config``. Raises ``ConfigError`` if human positives are wanted and unknown."""
    if config.pool.add_human_positives and config.data.train.qrels is None:
        raise ConfigError("pool.add_human_positives is true, but `data.train.qrels` names no file; name one or drop it")
    texts = ingested(config).directory
    # Not the whole of what was ingested: other dev or test questions change no pool.
    inputs = {
        "corpus": corpus_hash(texts),
        "queries": split_hash(texts, "train"),
        "qrels": labels_hash(texts, "train"),
    }
    settings: dict[str, Any] = {"pool": config.pool.science(), "seed": config.seed}
    for source in config.pool.sources:
        if source.kind == "dense":
            encoder = _encoder(source, config)
            inputs[f"encoder of {source.name}"] = content_hash(encoder.locate())
            settings[f"encoder of {source.name}"] = encoder.science()
        elif source.kind == "bm25":
            settings["language"] = config.language
        else:
            inputs[f"run of {source.name}"] = hash_input(source.path)
    return StepPlan("pool", STEP_VERSION, config.output, settings, inputs)


def pool(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The candidate pools of the training questions, in ``candidate_pools.parquet``, and what they hold."""
    return produce(plan(config), partial(_build, config), options)


def lists_again(config: RunConfig, query_ids: Collection[str], *, depth: int) -> dict[str, ListedQuery]:
    """What the sources find for some of the training questions, at least ``depth`` deep, by question."""
    texts = ingested(config).directory
    split = read_split(texts, "train")
    deeper = tuple(source.model_copy(update={"depth": max(source.depth, depth)}) for source in config.pool.sources)
    wanted = [query for query in split.queries if query.query_id in query_ids]
    listed = {}
    with TemporaryDirectory() as folder:
        again = _Sources(
            config.model_copy(update={"pool": config.pool.model_copy(update={"sources": deeper})}),
            texts,
            read_passages(texts, split.corpus),
            read_copies(texts, split.corpus),
            unpack_to=Path(folder),
        )
        for source in again.runs:
            again.scan(source, split, reject=lambda row: None)  # counted, and kept, when the pools were made
        rankers = again.rankers()
        with progress(len(wanted), label="lists of the pools", unit="questions") as done:
            for start in range(0, len(wanted), _BLOCK):
                block = wanted[start : start + _BLOCK]
                found = {source: rank(block) for source, rank in rankers.items()}
                for number, query in enumerate(block):
                    of_query = {source: lists[number] for source, lists in found.items()}
                    listed[query.query_id] = _listed(of_query, config.pool)
                done.advance(len(block))
    return listed


def _listed(found: Mapping[str, Sequence[ScoredPassage]], pool: PoolConfig) -> ListedQuery:
    read = [RankedList(source.name, found[source.name][: source.depth], source.max_passages) for source in pool.sources]
    lists = {source: [hit.passage_id for hit in hits] for source, hits in found.items()}
    return ListedQuery(lists, frozenset(best_first(read, pool.max_passages)))


def show_stats(config: RunConfig) -> None:
    """Print what the pools of ``config`` hold, and where the picture of it is. Raises ``DataError`` without pools."""
    directory = find(plan(config)).directory
    statistics = statistics_from_json(read_json(directory / STATISTICS))
    console = Console(soft_wrap=True, highlight=False)
    for line in render_counts(statistics):
        console.print(f"- {line}", markup=False)
    if not statistics.num_judged:
        console.print(f"- {NO_HUMAN_POSITIVES}", markup=False)
        return
    console.print(render_recall(statistics))
    console.print(f"picture: {directory / PLOT}", markup=False)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    texts = ingested(config)
    split = read_split(texts.directory, "train")
    passages, copies = read_passages(texts.directory, split.corpus), read_copies(texts.directory, split.corpus)
    with _scratch(context.directory / ".unpacked") as folder:
        sources = _Sources(config, texts.directory, passages, copies, unpack_to=folder)
        quarantined = _scan_runs(config, sources, split, context.directory / QUARANTINE)
        by_id = {passage.passage_id: passage for passage in passages}
        pools = _Pools(config, split, by_id, copies, sources.rankers())
        _write(pools, split, context)
    _log_inputs(config, context, texts, split)
    _publish(pools.statistics(), context)
    return _report(pools.statistics(), quarantined)


def _write(pools: "_Pools", split: Split, context: StepContext) -> None:
    with (
        progress(len(split.queries), label="pool", unit="questions") as done,
        schema.writing_dataset(
            context.directory / POOLS, schema.CANDIDATE_POOLS, fingerprint=context.fingerprint
        ) as append,
    ):
        for start in range(0, len(split.queries), _BLOCK):
            block = pools.build(split.queries[start : start + _BLOCK])
            append(schema.to_table(map(_row, block), schema.CANDIDATE_POOLS))
            done.advance(len(block))


def _scan_runs(config: RunConfig, sources: "_Sources", split: Split, quarantine: Path) -> dict[str, int]:
    """Check every run file; bad lines go to ``quarantine``. Returns how many there were, by reason.

    Raises ``DataError`` if that leaves nothing to make pools from.
    """
    if not sources.runs:
        return {}
    reasons: Counter[str] = Counter()
    num_rows = 0
    with _quarantining(quarantine, reasons) as reject:
        for source in sources.runs:
            print(f"pool: {source.name}: checking {source.path}", flush=True)
            run = sources.scan(source, split, reject=reject)
            _report_run(source, run, len(split.queries))
            num_rows += run.num_rows
    for reason, count in sorted(reasons.items()):
        print(f"pool: quarantined {count:,} lines of runs: {reason} ({REASONS[reason]})")
    if reasons:
        print(f"pool: the lines, with their numbers, are published with this step as {quarantine.name}", flush=True)
    if not num_rows and len(sources.runs) == len(config.pool.sources):
        raise _nothing_usable(sources.runs, quarantine)
    return dict(sorted(reasons.items()))


class _Sources:
    """The ranked lists of ``pool.sources``, each text once. A source is loaded once and then asked block by block."""

    def __init__(
        self, config: RunConfig, texts: Path, passages: Sequence[Passage], copies: Copies, *, unpack_to: Path
    ) -> None:
        self._config = config
        self._texts = texts
        self._passages = passages
        self._copies = copies
        self._unpack_to = unpack_to
        self._scanned: dict[str, TrecRun] = {}

    @property
    def runs(self) -> list[TrecRunSourceConfig]:
        """The sources that are files, each of which has to be scanned before ``rankers`` is called."""
        return [source for source in self._config.pool.sources if source.kind == "trec_run"]

    @cached_property
    def _passage_ids(self) -> Set[str]:
        return {passage.passage_id for passage in self._passages}

    def scan(self, source: TrecRunSourceConfig, split: Split, *, reject: Reject) -> TrecRun:
        """Check the run file of ``source``; bad lines are given to ``reject``."""
        self._scanned[source.name] = scan_run(
            source.path,
            query_ids={query.query_id for query in split.queries},
            passage_ids=self._passage_ids,
            reject=reject,
            unpack_to=self._unpack_to / source.name,
        )
        return self._scanned[source.name]

    def rankers(self) -> dict[str, Ranker]:
        """By source, a function from queries to their ranked lists."""
        return {source.name: self._ranker(source) for source in self._config.pool.sources}

    def _ranker(self, source: SourceConfig) -> Ranker:
        depth = source.depth
        if source.kind == "bm25":
            rows = self._copies.rows_without([passage.passage_id for passage in self._passages])
            lexical = BM25.build([self._passages[row] for row in rows], self._config.language)
            return lambda queries: lexical.search([query.query for query in queries], depth)
        if source.kind == "dense":
            return self._dense(_encoder(source, self._config), depth)
        run = self._scanned[source.name]
        return lambda queries: [
            self._copies.distinct(ranked)[:depth] for ranked in run.search([query.query_id for query in queries])
        ]

    def _dense(self, encoder_config: EncoderConfig, depth: int) -> Ranker:
        config = self._config
        with ray_session(config.cluster):
            path = embed_corpus(
                encoder_config, passages_path(self._texts), output=config.output, cluster=config.cluster
            )
        ids, passages_PD = read_embeddings(path)
        if self._copies.first_of:
            rows = self._copies.rows_without(ids)
            ids, passages_PD = [ids[row] for row in rows], passages_PD[rows]
        passages = ExactSearch(ids, passages_PD, device=config.cluster.search_device)
        encoder = build_encoder(encoder_config)

        def search(queries: Sequence[Query]) -> list[list[ScoredPassage]]:
            queries_QD = encoder.encode([query.query for query in queries], side="query")
            return passages.search(queries_QD, k=depth)

        return search


class _Pools:
    """Builds pools and counts what they hold; keeps none of them."""

    def __init__(
        self,
        config: RunConfig,
        split: Split,
        passages: Mapping[str, Passage],
        copies: Copies,
        rankers: Mapping[str, Ranker],
    ) -> None:
        self._config = config
        self._qrels = split.qrels
        self._copies = copies
        self._relevant_from = split.relevant_from
        self._passages = passages
        self._rankers = rankers
        self._counter = PoolCounter({source.name: source.depth for source in config.pool.sources})

    def build(self, queries: Sequence[Query]) -> list[CandidatePool]:
        """One pool per query, in order."""
        found = {source: rank(queries) for source, rank in self._rankers.items()}
        return [
            self._pool(query, {source: lists[number] for source, lists in found.items()})
            for number, query in enumerate(queries)
        ]

    def statistics(self) -> PoolStatistics:
        """What all pools built so far hold."""
        return self._counter.result()

    def _pool(self, query: Query, found: Mapping[str, Sequence[ScoredPassage]]) -> CandidatePool:
        settings = self._config.pool
        lists = [RankedList(source.name, found[source.name], source.max_passages) for source in settings.sources]
        human_labels = self._copies.grades(self._qrels.get(query.query_id, {}))
        merged = merge_ranked_lists(
            query,
            lists,
            self._passages,
            max_passages=settings.max_passages,
            seed=self._config.seed,
            human_labels=human_labels,
            relevant_from=self._relevant_from,
            add_human_positives=settings.add_human_positives,
        )
        self._counter.count(merged, lists, relevant(human_labels, self._relevant_from))
        return merged


def _encoder(source: DenseSourceConfig, config: RunConfig) -> EncoderConfig:
    return source.encoder or config.encoder


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """``folder`` while the block runs, without what a killed attempt left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quarantining(path: Path, reasons: Counter[str]) -> Iterator[Reject]:
    """A function that writes a rejected row to ``path`` at once and counts its reason."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:

        def reject(row: RejectedRow) -> None:
            reasons[row.reason] += 1
            file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")

        yield reject


def _nothing_usable(runs: Sequence[TrecRunSourceConfig], quarantine: Path) -> DataError:
    """The error for runs without a usable line, with the first that was rejected."""
    paths = ", ".join(str(source.path) for source in runs)
    with quarantine.open(encoding="utf-8") as file:
        line = file.readline()
    if not line:
        return DataError(f"no ranked list in {paths}, the only sources of `pool`: nothing is in there")
    first = json.loads(line)
    return DataError(
        f"no usable line in {paths}, the only sources of `pool`; the first that was rejected, line {first['line']} of "
        f"{first['path']}: {first['detail']} (it reads {first['raw'][:80]!r}); all of them are in {quarantine}"
    )


def _report_run(source: TrecRunSourceConfig, run: TrecRun, num_questions: int) -> None:
    print(
        f"pool: {source.name}: {run.num_rows:,} usable lines in {source.path.name}, "
        f"lists for {run.num_queries:,} of {num_questions:,} questions",
        flush=True,
    )


def _row(pool: CandidatePool) -> dict[str, Any]:
    return {**asdict(pool), "pool_id": pool.pool_id}


def _log_inputs(config: RunConfig, context: StepContext, texts: StepResult, split: Split) -> None:
    context.journal.dataset(
        "train questions",
        path=config.data.train.queries,
        digest=split_hash(texts.directory, split.name),
        context="pool",
        num_rows=len(split.queries),
    )
    context.journal.params({f"pool.{name}": value for name, value in config.pool.science().items()})


def _publish(statistics: PoolStatistics, context: StepContext) -> None:
    write_json(context.directory / STATISTICS, statistics_to_json(statistics))
    context.journal.artifact(STATISTICS)
    curves = {**statistics.recall, "union": statistics.union_recall}
    recall = {f"recall.{name}@{depth}": value for name, curve in curves.items() for depth, value in curve.items()}
    if statistics.num_judged:
        plot_recall(context.directory / PLOT, statistics)
        context.journal.artifact(PLOT)
        recall["recall.pool"] = statistics.pool_recall
    counts = {"questions": statistics.num_pools, "candidates": statistics.num_candidates}
    context.journal.metrics({f"pool.{name}": value for name, value in {**counts, **recall}.items()})


def _report(statistics: PoolStatistics, quarantined: Mapping[str, int]) -> dict[str, Any]:
    for line in render_counts(statistics):
        print(f"pool: {line}", flush=True)
    return {
        "questions": statistics.num_pools,
        "candidates": statistics.num_candidates,
        "empty_pools": statistics.num_empty_pools,
        "found_by": statistics.found_by,
        "human_positives": statistics.human_positives,
        "quarantined": quarantined,
    }
