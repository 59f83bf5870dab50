"""Candidate pools: the passages that each training question will be judged on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from winnow import schema
from winnow.cluster.encoding import embed_corpus
from winnow.cluster.runtime import ray_session
from winnow.config import fingerprint
from winnow.corpora.store import Split, corpus_hash, passages_path, read_passages, read_split, split_hash
from winnow.files import hash_tree
from winnow.modeling.encoder import build_encoder
from winnow.models import locate_model
from winnow.pooling.config import Source
from winnow.pooling.merge import merge_ranked_lists
from winnow.progress import progress
from winnow.records import CandidatePool, Passage, Query, ScoredPassage
from winnow.retrieval.bm25 import BM25
from winnow.retrieval.dense import search_embeddings
from winnow.retrieval.embeddings import read_embeddings
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, produce

STEP_VERSION = "1"
POOLS = "candidate_pools.parquet"
Ranker = Callable[[Sequence[str]], list[list[ScoredPassage]]]
_BLOCK = 64
"""Queries whose ranked lists are held at a time."""


def plan(config: RunConfig) -> StepPlan:
    """What ``pool`` would compute for ``config``."""
    texts = ingested(config).directory
    # Not the whole of what was ingested: other dev or test questions change no pool.
    inputs = {"corpus": corpus_hash(texts), "queries": split_hash(texts, "train")}
    settings: dict[str, Any] = {"pool": config.pool.science(), "seed": config.seed}
    if "dense" in config.pool.sources:
        inputs["encoder"] = fingerprint(hash_tree(locate_model(config.encoder.model)))
        settings["encoder"] = config.encoder.science()
    return StepPlan("pool", STEP_VERSION, config.output, settings, inputs)


def pool(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The candidate pools of the training questions, in ``candidate_pools.parquet``."""
    return produce(plan(config), partial(_build, config), options)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    texts = ingested(config)
    split = read_split(texts.directory, "train")
    passages = read_passages(texts.directory, split.corpus)
    rankers = {source: _ranker(source, config, texts.directory, passages) for source in config.pool.sources}
    by_id = {passage.passage_id: passage for passage in passages}
    pools: list[CandidatePool] = []
    with progress(len(split.queries), label="pool", unit="questions") as done:
        for start in range(0, len(split.queries), _BLOCK):
            queries = split.queries[start : start + _BLOCK]
            pools += _pools(config, queries, rankers, by_id)
            done.advance(len(queries))
    table = schema.to_table(map(_row, pools), schema.CANDIDATE_POOLS)
    schema.write_dataset(context.directory / POOLS, table, fingerprint=context.fingerprint)
    _log_inputs(config, context, texts, split)
    return _report(pools)


def _ranker(source: Source, config: RunConfig, texts: Path, passages: Sequence[Passage]) -> Ranker:
    """A ranked list of ``pool.depth`` passages per query, from one source."""
    depth = config.pool.depth
    if source == "bm25":
        lexical = BM25.build(passages)
        return lambda queries: lexical.search(queries, depth)
    with ray_session(config.cluster):
        path = embed_corpus(config.encoder, passages_path(texts), output=config.output, cluster=config.cluster)
    passage_ids, passages_PD = read_embeddings(path)
    encoder = build_encoder(config.encoder)
    return lambda queries: search_embeddings(encoder.encode(queries, side="query"), passage_ids, passages_PD, k=depth)


def _pools(
    config: RunConfig, queries: Sequence[Query], rankers: Mapping[str, Ranker], passages: Mapping[str, Passage]
) -> list[CandidatePool]:
    ranked = {source: rank([query.query for query in queries]) for source, rank in rankers.items()}
    return [
        merge_ranked_lists(
            query,
            {source: lists[number] for source, lists in ranked.items()},
            passages,
            max_passages=config.pool.max_passages,
            seed=config.seed,
        )
        for number, query in enumerate(queries)
    ]


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


def _report(pools: Sequence[CandidatePool]) -> dict[str, Any]:
    sizes = [len(pool.passages) for pool in pools]
    found_by = Counter(
        "+".join(finding.source for finding in passage.found_by) for pool in pools for passage in pool.passages
    )
    empty = [pool.query_id for pool in pools if not pool.passages]
    print(
        f"pool: {len(pools):,} questions, {sum(sizes):,} candidates ({sum(sizes) / len(sizes):.1f} per question); "
        + ", ".join(f"{count:,} found by {source}" for source, count in sorted(found_by.items())),
        flush=True,
    )
    if empty:
        print(
            f"pool: {len(empty):,} questions have no candidate, such as {empty[0]!r}; they are kept with an empty pool "
            f"and will be labelled `empty_pool`. A dense source finds something for every question",
            flush=True,
        )
    return {
        "questions": len(pools),
        "candidates": sum(sizes),
        "empty_pools": len(empty),
        "found_by": dict(sorted(found_by.items())),
    }
