"""What a filter costs that nobody has asked for yet, and what it costs that an index lies in many files.

python benchmarks/filters_and_shards.py [filters] [shards] [--passages 200000] [--factories IVF1024,SQ8 ...]

Filters: made-up passages, each with a document, one of two languages, one of 1,000 owners and a key that no other
passage has. Printed are the median and the slowest of --queries filters that differ from each other, from the request's
mapping to the bits that FAISS reads; nothing is remembered from one to the next.

Shards: random unit vectors of 384 dimensions, once in one file and once in 20, of the same kind of index. The same
queries, one at a time, k = 10, one thread; the two take turns. A ratio is of one round. Of an exact kind, and of IVF,
both find the same, which is checked first.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from rounds import print_table, ratios, spread

from winnow.corpora.store import write_passages
from winnow.records import Passage
from winnow.retrieval.building import build_index
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.fields import FieldIndex
from winnow.retrieval.filtering import FilterCache, parse_filter
from winnow.retrieval.passages import PassageFile
from winnow.retrieval.passages import write_passages as write_arrow
from winnow.retrieval.vector_index import VectorIndex

DIMENSION = 384
K = 10
NUM_SHARDS = 20
_BLOCK = 10_000
RawFilter = dict[str, Any]


def main(options: argparse.Namespace) -> None:
    """Print the tables that are asked for."""
    faiss.omp_set_num_threads(1)
    for what in options.what or TABLES:
        with tempfile.TemporaryDirectory(prefix="winnow-benchmark-") as name:
            TABLES[what](Path(name), options)


def print_filters(folder: Path, options: argparse.Namespace) -> None:
    """Milliseconds of a new filter, by what it asks for."""
    started = time.perf_counter()
    write_arrow(write_passages(folder, made_up(options.passages)), folder / "passages.arrow")
    passages = PassageFile.load(folder / "passages.arrow")
    written = time.perf_counter()
    built = FieldIndex.build(passages)
    built.save(folder / "fields.npy")
    seconds = time.perf_counter() - written
    fields = FieldIndex.load(folder / "fields.npy", built.counts, passages)
    per_field = (folder / "fields.npy").stat().st_size / sum(built.counts.values())
    print(f"{options.passages:,} passages written in {written - started:.1f} s, their fields in {seconds:.1f} s")
    print(f"{len(built.counts)} fields, {per_field:.2f} bytes per passage and field; load {os.getloadavg()[0]:.1f}")
    rows = []
    for label, draw in filters(options.passages).items():
        draws = random.Random(7)
        spent, found = zip(*(timed(fields, draw(draws)) for _ in range(options.queries)), strict=True)
        members = f"{statistics.median(found):,.0f}"
        rows.append([label, members, f"{statistics.median(spent):.2f}", f"{max(spent):.2f}"])
    print_table(["filter", "passages it lets through", "ms, median", "ms, slowest"], rows)


def made_up(count: int) -> list[Passage]:
    """Passages with four fields of metadata, of few values, of many, and of one each."""
    draws = random.Random(5)
    return [
        Passage(
            f"p{number}",
            "text",
            document_id=f"d{number // 10}",
            metadata={
                "language": draws.choice(("en", "de")),
                "owner": f"owner {draws.randrange(1000)}",
                "key": f"key {number}",
            },
        )
        for number in range(count)
    ]


def filters(count: int) -> dict[str, Callable[[random.Random], RawFilter]]:
    """What is asked for, each as a function that draws a filter."""

    def owners(draws: random.Random, number: int) -> list[str]:
        return [f"owner {owner}" for owner in draws.sample(range(1000), number)]

    return {
        "one document": lambda draws: {"document_id": f"d{draws.randrange(count // 10)}"},
        "one key of its own": lambda draws: {"key": f"key {draws.randrange(count)}"},
        "a value that nobody has": lambda draws: {"key": f"other {draws.random()}"},
        "100 passages by id": lambda draws: {"passage_id": [f"p{draws.randrange(count)}" for _ in range(100)]},
        "10,000 passages by id": lambda draws: {"passage_id": [f"p{draws.randrange(count)}" for _ in range(10_000)]},
        "one of 1,000 owners": lambda draws: {"owner": owners(draws, 1)},
        "20 owners, one language": lambda draws: {"owner": owners(draws, 20), "language": draws.choice(("en", "de"))},
        "one of two languages": lambda draws: {"language": draws.choice(("en", "de"))},
        "500 owners, one language": lambda draws: {"owner": owners(draws, 500), "language": draws.choice(("en", "de"))},
        "both languages": lambda draws: {"language": ["en", "de"]},
    }


def timed(fields: FieldIndex, raw: RawFilter) -> tuple[float, int]:
    """Milliseconds until the bits of the filter are there, and how many passages it lets through."""
    cache = FilterCache(fields)
    started = time.perf_counter()
    subset = cache.subset(parse_filter(raw))
    spent = time.perf_counter() - started
    return 1000 * spent, subset.count


def print_shards(folder: Path, options: argparse.Namespace) -> None:
    """Milliseconds of a search in one file and in 20, by kind of index."""
    rows = []
    for factory in options.factories:
        indexes = [made(folder, factory, options.passages, num_shards) for num_shards in (1, NUM_SHARDS)]
        queries_QD = next(vectors(options.queries, seed=7))
        if "HNSW" not in factory:
            check_equal(*indexes, queries_QD)
        spent: list[list[float]] = [[], []]
        for number in range(options.rounds):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                spent[which].append(per_query(indexes[which], queries_QD))
        rows.append([factory, *(spread(each, ".3f") for each in spent), spread(ratios(spent[1], spent[0]))])
        print(f"{factory}: {rows[-1]}; load {os.getloadavg()[0]:.1f}", flush=True)
    print_table(["index", "ms, 1 file", f"ms, {NUM_SHARDS} files", "ratio"], rows)


def made(folder: Path, factory: str, count: int, num_shards: int) -> VectorIndex:
    """An index of ``count`` random vectors in ``num_shards`` files."""
    directory = folder / f"{factory}-{num_shards}"
    config = IndexConfig(factory=factory, shard_passages=-(-count // num_shards), build_threads=2)
    build_index(directory, lambda: vectors(count, seed=13), num_vectors=count, dimension=DIMENSION, config=config)
    return VectorIndex.load(directory)


def vectors(count: int, *, seed: int) -> Iterator[NDArray[np.float32]]:
    """Random unit vectors, in blocks."""
    numbers = np.random.default_rng(seed)
    for start in range(0, count, _BLOCK):
        rows = numbers.standard_normal((min(_BLOCK, count - start), DIMENSION), dtype=np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def check_equal(one: VectorIndex, many: VectorIndex, queries_QD: NDArray[np.float32]) -> None:
    """Return if both find the same; also reads the whole index once, so that no round does."""
    (first_QK, positions_QK), (second_QK, others_QK) = (index.search(queries_QD, K) for index in (one, many))
    if (positions_QK == others_QK).mean() < 0.999 or not np.allclose(first_QK, second_QK, atol=1e-4):
        raise SystemExit("one file and many do not find the same; nothing was measured")


def per_query(index: VectorIndex, queries_QD: NDArray[np.float32]) -> float:
    """Milliseconds per query, one at a time."""
    started = time.perf_counter()
    for number in range(len(queries_QD)):
        index.search(queries_QD[number : number + 1], K)
    return 1000 * (time.perf_counter() - started) / len(queries_QD)


TABLES = {"filters": print_filters, "shards": print_shards}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*TABLES, []])
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--factories", nargs="*", default=["IVF1024,SQ8", "IVF1024,Flat", "HNSW32", "Flat"])
    main(parser.parse_args())
