"""Searches by vector per second: the Retriever against bare FAISS, both over the same index file.

python benchmarks/vector_search.py [--passages 120000] [--factories Flat HNSW32] [--rounds 9] [--threads 1]

A retriever version of random unit vectors (384 dimensions) is made once per kind of index and kept in --cache. The
Retriever loads it as `winnow serve` does; FAISS reads the same file with the same flag, so both search the same
pages of memory. In every round each of them searches for k=10 with the same queries, one at a time and in batches of
32; the order changes from round to round. A ratio is of one round; printed are the median and the range of all
rounds, and the load of the machine. Equal results are checked first.
"""

import argparse
import os
import statistics
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import torch
from index_kinds import K, Search, rate
from rounds import print_table, ratios, spread
from served_versions import make_version

from winnow.retrieval.config import IndexConfig
from winnow.retrieval.index_files import read_description, shard_path
from winnow.retrieval.retriever import load_retriever
from winnow.retrieval.version_files import INDEX

BATCHES = (1, 32)


def main(options: argparse.Namespace) -> None:
    """Measure every kind of index with each size of batch, and print a row for each."""
    torch.set_num_threads(options.threads)
    rows = []
    for factory in options.factories:
        folder = options.cache / f"{factory.replace(',', '_')}-{options.passages}"
        config = IndexConfig(factory=factory, bm25=False, shard_passages=options.passages, build_threads=2)
        make_version(folder, num_passages=options.passages, config=config, vectors="random")
        bare = bare_search(folder / INDEX)
        retriever = load_retriever(folder, device="cpu")
        queries_QD = draw_queries(options.queries, retriever.encoder.dimension)
        searches = {"faiss": bare, "retriever": partial(retriever.search_vectors, k=K)}
        check_equal(*searches.values(), queries_QD)
        for size in BATCHES:
            rows.append([factory, str(size), *compare(searches, queries_QD, size, options)])
    print(f"{options.passages:,} x {queries_QD.shape[1]}, k={K}, {options.threads} threads, {options.rounds} rounds")
    print(f"load {os.getloadavg()[0]:.1f}")
    print_table(["index", "batch", "FAISS, queries/s", "Retriever, queries/s", "ratio"], rows)


def bare_search(directory: Path) -> Search:
    """FAISS alone on the index's file, with the index's own settings."""
    description = read_description(directory)
    if len(description.shards) != 1 or description.rescore:
        raise SystemExit(f"{directory} has {len(description.shards)} shards; FAISS alone can be compared with one")
    index = faiss.read_index(str(shard_path(directory, 0)), faiss.IO_FLAG_MMAP_IFC)
    if description.ef_search:
        index.hnsw.efSearch = description.ef_search
    if description.num_probes:
        faiss.extract_index_ivf(index).nprobe = description.num_probes
    return partial(index.search, k=K)


def draw_queries(count: int, dimension: int) -> np.ndarray:
    """Random unit vectors."""
    queries_QD = np.random.default_rng(7).standard_normal((count, dimension), dtype=np.float32)
    return queries_QD / np.linalg.norm(queries_QD, axis=1, keepdims=True)


def check_equal(bare: Search, ours: Search, queries_QD: np.ndarray) -> None:
    """Return if both find the same; also reads the whole index once, so that no round does."""
    scores_QK, positions_QK = bare(queries_QD)
    hits = ours(queries_QD)
    if not np.array_equal(hits.positions_QK, positions_QK) or not np.allclose(hits.scores_QK, scores_QK):
        raise SystemExit("the Retriever and FAISS do not find the same; nothing was measured")


def compare(
    searches: dict[str, Search], queries_QD: np.ndarray, size: int, options: argparse.Namespace
) -> tuple[str, str, str]:
    """Queries per second of FAISS and of the Retriever, and the ratio."""
    rates: dict[str, list[float]] = {name: [] for name in searches}
    for number in range(options.rounds):
        for name in sorted(searches, reverse=number % 2 == 1):
            rates[name].append(rate(searches[name], queries_QD, size, options.seconds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratio = spread(ratios(rates["retriever"], rates["faiss"]), ".3f")
    print(f"batches of {size}: {medians}, ratio {ratio}; load {os.getloadavg()[0]:.1f}", flush=True)
    return f"{medians['faiss']:,.0f}", f"{medians['retriever']:,.0f}", ratio


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=120_000)
    parser.add_argument("--factories", nargs="+", default=["Flat", "HNSW32"])
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each measurement of a round takes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("runs/benchmarks/vector-search"))
    main(parser.parse_args())
