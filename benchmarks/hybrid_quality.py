"""When hybrid search pays: nDCG@10 of BM25, of the encoder, and of both, united by every rule of `serve.fusion`.

python benchmarks/hybrid_quality.py --data FOLDER ... [--queries 1000]

Each FOLDER is in the BEIR layout, with test qrels. all-MiniLM-L6-v2 as it comes, exact search. "p" is of
paired t-tests of reciprocal rank against each of the two alone.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rounds import print_table
from served_versions import ENCODER

from winnow.corpora.beir import read_corpus, read_qrels, read_queries
from winnow.corpora.store import group_qrels
from winnow.evaluation.measures import Rankings, answerable, mean, measure_rankings
from winnow.evaluation.significance import compare
from winnow.modeling.encoder import build_encoder
from winnow.modeling.text import passage_text
from winnow.records import ScoredPassage
from winnow.retrieval.bm25 import BM25
from winnow.retrieval.config import FusionConfig
from winnow.retrieval.dense import ExactSearch
from winnow.retrieval.fusion import fuse_hits

MEASURE = "nDCG@10"
DEPTH = 100
RULES = {
    "reciprocal rank": FusionConfig(),
    "reciprocal rank, dense .8": FusionConfig(dense_weight=0.8),
    "weighted .5": FusionConfig(method="weighted"),
    "weighted, dense .8": FusionConfig(method="weighted", dense_weight=0.8),
}
Hits = list[list[ScoredPassage]]


def main(options: argparse.Namespace) -> None:
    """Print a row per collection."""
    rows = [measure(folder, options.queries) for folder in options.data]
    print_table(["collection", "queries", "passages", "BM25", "encoder", *RULES, "p, BM25", "p, encoder"], rows)


def measure(folder: Path, most: int) -> list[str]:
    """The row of one collection."""
    qrels = answerable(group_qrels(read_qrels(folder / "qrels" / "test.tsv").rows))
    queries = [query for query in read_queries(folder / "queries.jsonl").rows if query.query_id in qrels][:most]
    passages = read_corpus(folder / "corpus.jsonl").rows
    texts = [query.query for query in queries]
    lexical = BM25.build(passages, "english").search(texts, DEPTH)
    dense = search_dense(passages, texts)
    found: dict[str, Hits] = {"BM25": lexical, "encoder": dense}
    for name, rule in RULES.items():
        found[name] = [fuse_hits(*both, config=rule, k=DEPTH) for both in zip(dense, lexical, strict=True)]
    judged = {query.query_id: qrels[query.query_id] for query in queries}
    values = {
        name: measure_rankings(as_rankings(judged, hits), judged, (MEASURE,))[MEASURE] for name, hits in found.items()
    }
    tests = [compare(values["reciprocal rank"], values[alone], level=0.05, power=0.8) for alone in ("BM25", "encoder")]
    means = [f"{mean(by_query):.3f}" for by_query in values.values()]
    return [folder.name, f"{len(queries):,}", f"{len(passages):,}", *means, *(f"{test.p_value:.4f}" for test in tests)]


def search_dense(passages: Sequence, texts: Sequence[str]) -> Hits:
    """The encoder's own results."""
    encoder = build_encoder(ENCODER, device="cpu")
    passages_PD = encoder.encode([passage_text(passage) for passage in passages], side="passage")
    exact = ExactSearch([passage.passage_id for passage in passages], passages_PD)
    return exact.search(encoder.encode(texts, side="query"), k=DEPTH)


def as_rankings(query_ids: Sequence[str], hits: Hits) -> Rankings:
    """Passage ids by query, best first."""
    return {name: [hit.passage_id for hit in found] for name, found in zip(query_ids, hits, strict=True)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders in the BEIR layout")
    parser.add_argument("--queries", type=int, default=1000, help="queries at most per collection")
    main(parser.parse_args())
