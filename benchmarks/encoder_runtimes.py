"""What ONNX Runtime gains and what it loses: queries encoded by each runtime, searched in the same passages.

python benchmarks/encoder_runtimes.py --data FOLDER [--passages N] [--threads 1] [--rounds 5]

FOLDER is in the BEIR layout. all-MiniLM-L6-v2; passages are encoded once, by torch in its default precision (bfloat16
where the processor has it), as an index is. Cosines are with torch's float32 vectors of the queries. Every runtime
has a process of its own and is asked in turn; times include tokenising. "beside Python": batches of 32 again, while
another thread of the process runs Python all the time. Ratios are to torch as it is served: frozen, in its default
precision.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rounds import Worker, in_turn, print_table, ratios, serve, spread
from synthetic_training import ENCODER

from winnow.corpora.beir import read_corpus, read_qrels, read_queries
from winnow.corpora.store import group_qrels
from winnow.evaluation.measures import mean, measure_rankings
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.frozen import freeze_encoder
from winnow.modeling.onnx_runtime import OnnxRuntime, load_runtime
from winnow.modeling.protocol import Encode, Side
from winnow.modeling.text import passage_text
from winnow.models import locate_model
from winnow.retrieval.dense import ExactSearch

DEFAULT, MODULES, EXACT = "torch", "torch, not frozen", "torch float32"
VARIANTS = [DEFAULT, MODULES, EXACT, "onnx", "onnx-int8"]
MEASURE = "nDCG@10"
SMALL, LARGE = 1, 32
"""Queries encoded together."""
TIMED = 192
"""Queries in a timed round."""


class Collection:
    """Judged queries and the passages they are searched in."""

    def __init__(self, folder: Path, *, num_passages: int | None) -> None:
        self.qrels = group_qrels(read_qrels(folder / "qrels" / "test.tsv").rows)
        queries = {query.query_id: query.query for query in read_queries(folder / "queries.jsonl").rows}
        self.query_ids = [query_id for query_id in self.qrels if query_id in queries]
        self.queries = [queries[query_id] for query_id in self.query_ids]
        judged = {passage_id for relevant in self.qrels.values() for passage_id in relevant}
        found = read_corpus(folder / "corpus.jsonl").rows
        # Judged passages stay, so that a part of the corpus is searchable too, if more easily.
        found.sort(key=lambda passage: passage.passage_id not in judged)
        kept = found if num_passages is None else found[:num_passages]
        self.passage_ids = [passage.passage_id for passage in kept]
        self.passages = [passage_text(passage) for passage in kept]


class Encoding:
    """One runtime, in its own process."""

    def __init__(self, encoder: Encode, collection: Collection) -> None:
        self._encoder = encoder
        self._texts: dict[Side, list[str]] = {"query": collection.queries, "passage": collection.passages}

    def answer(
        self, *, keep: str | None = None, side: Side = "query", batch: int = SMALL, beside: bool = False
    ) -> dict[str, Any]:
        """Vectors of all texts of ``side`` go to the file ``keep``; without it, seconds for the timed queries.

        ``beside`` a thread that runs Python all the time, as one that reads requests does at its worst.
        """
        if keep:
            np.save(keep, self._encoder.encode(self._texts[side], side=side))
            return {}
        queries = self._texts["query"][:TIMED]
        with _python_running() if beside else contextlib.nullcontext():
            started = time.perf_counter()
            for start in range(0, len(queries), batch):
                self._encoder.encode(queries[start : start + batch], side="query")
            return {"seconds": time.perf_counter() - started, "count": len(queries)}


@contextlib.contextmanager
def _python_running() -> Iterator[None]:
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            sum(range(100))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def main(options: argparse.Namespace) -> None:
    """Measure all runtimes and print a row for each."""
    collection = Collection(options.data, num_passages=options.passages)
    print(f"{len(collection.queries)} queries, {len(collection.passages)} passages, {options.threads} thread(s)")
    with tempfile.TemporaryDirectory(prefix="winnow-runtimes-") as name:
        workers = [Worker(variant, threads=options.threads, arguments=["--cache", name]) for variant in VARIANTS]
        quality = measure_quality(workers, collection, Path(name))
        seconds = {batch: measure_speed(workers, options.rounds, batch=batch) for batch in (SMALL, LARGE)}
        beside = measure_speed(workers, options.rounds, batch=LARGE, beside=True)
        for worker in workers:
            worker.close()
    count = min(TIMED, len(collection.queries))
    header = ["runtime", MEASURE, "cosine, mean (least)"]
    header += [f"ms per query at {SMALL}", "ratio", f"queries/s at {LARGE}", "ratio", "beside Python", "ratio"]
    print(f"load {os.getloadavg()[0]:.1f}")
    rows = [
        [variant, *quality[variant], *_speeds(seconds, variant, count), *_speed(beside, variant, count)]
        for variant in VARIANTS
    ]
    print_table(header, rows)


def measure_quality(workers: list[Worker], collection: Collection, scratch: Path) -> dict[str, list[str]]:
    """The measure and the cosines of each runtime."""
    workers[0].ask(keep=str(scratch / "passages.npy"), side="passage")
    for worker in workers:
        worker.ask(keep=str(scratch / f"{worker.variant}.npy"))
    passages = ExactSearch(collection.passage_ids, np.load(scratch / "passages.npy"))
    vectors = {variant: np.load(scratch / f"{variant}.npy") for variant in VARIANTS}
    return {
        variant: [f"{_measure(collection, passages, queries_QD):.4f}", _cosines(queries_QD, vectors[EXACT])]
        for variant, queries_QD in vectors.items()
    }


def measure_speed(workers: list[Worker], rounds: int, **how: Any) -> dict[str, list[float]]:
    """Seconds of each round, by runtime; one round more comes first, to warm up. ``how``: as for ``answer``."""
    answers = in_turn(workers, rounds + 1, **how)
    return {variant: [answer["seconds"] for answer in given[1:]] for variant, given in answers.items()}


def work(options: argparse.Namespace) -> None:
    """In a runtime's own process: answer requests."""
    import torch

    torch.set_num_threads(options.threads)
    # As an endpoint has it.
    sys.setswitchinterval(0.0005)
    collection = Collection(options.data, num_passages=options.passages)
    serve(Encoding(load(options.worker, threads=options.threads, cache=options.cache), collection).answer)


def load(variant: str, *, threads: int, cache: Path) -> Encode:
    """The encoder on the runtime ``variant``."""
    precision = "float32" if variant == EXACT else "auto"
    encoder = DenseEncoder.load(locate_model(ENCODER), EncoderConfig(model=ENCODER, precision=precision), device="cpu")
    if variant == MODULES:
        return encoder
    if variant in (DEFAULT, EXACT):
        return freeze_encoder(encoder)
    return load_runtime(encoder, cast(OnnxRuntime, variant), threads=threads, cache=cache)


def _measure(collection: Collection, passages: ExactSearch, queries_QD: NDArray[np.float32]) -> float:
    found = passages.search(queries_QD, k=10)
    rankings = {
        query_id: [passage.passage_id for passage in hits]
        for query_id, hits in zip(collection.query_ids, found, strict=True)
    }
    return mean(measure_rankings(rankings, collection.qrels, [MEASURE])[MEASURE])


def _cosines(vectors_QD: NDArray[np.float32], exact_QD: NDArray[np.float32]) -> str:
    lengths_Q = np.linalg.norm(vectors_QD, axis=1) * np.linalg.norm(exact_QD, axis=1)
    cosines_Q = (vectors_QD * exact_QD).sum(axis=1) / lengths_Q
    return f"{cosines_Q.mean():.5f} ({cosines_Q.min():.5f})"


def _speeds(seconds: Mapping[int, Mapping[str, list[float]]], variant: str, count: int) -> list[str]:
    single = statistics.median(seconds[SMALL][variant]) / count
    gain = spread(ratios(seconds[SMALL][DEFAULT], seconds[SMALL][variant]))
    return [f"{1000 * single:.2f}", gain, *_speed(seconds[LARGE], variant, count)]


def _speed(seconds: Mapping[str, list[float]], variant: str, count: int) -> list[str]:
    per_second = count / statistics.median(seconds[variant])
    return [f"{per_second:,.0f}", spread(ratios(seconds[DEFAULT], seconds[variant]))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--passages", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    work(chosen) if chosen.worker else main(chosen)
