"""Encoded passages per second on a CPU: Winnow's encoder against sentence-transformers' at its best batch size.

python benchmarks/encoding_speed.py [--data FOLDER] [--passages 1000] [--rounds 5]

all-MiniLM-L6-v2 on docstrings, or on a folder in the BEIR layout; texts in, float32 vectors out, tokenising included.
Every variant has a process of its own and is asked in turn. Winnow runs with its default batches, in float32 and in
its default precision (bfloat16 where the processor has it); sentence-transformers runs in float32, in float32 under
bfloat16 autocast, and with weights converted to bfloat16, and first tries batches of 8 to 128 texts on a part of the
passages. Cosines are with its float32 vectors; the smallest over all passages is printed.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rounds import Worker, in_turn, print_table, ratios, serve, spread
from synthetic_training import ENCODER, read_passages

from winnow.models import locate_model

BATCH_SIZES = [8, 16, 32, 64, 128]
REFERENCE = "sentence-transformers float32"
THEIRS = [REFERENCE, "sentence-transformers autocast", "sentence-transformers bfloat16"]
VARIANTS = ["winnow float32", "winnow auto", *THEIRS]
Ways = dict[str, Callable[[list[str]], np.ndarray]]
"""Settings of an encoder, by name."""


def main(options: argparse.Namespace) -> None:
    """Measure all variants in turn and print a row for each."""
    workers = [Worker(variant, threads=options.threads) for variant in VARIANTS]
    rows = compare(workers, options.rounds, num_passages=options.passages)
    print(f"load {os.getloadavg()[0]:.1f}")
    print_table(["encoder", "passages/s", f"ratio to {REFERENCE}", "smallest cosine", "memory, MiB"], rows)


def compare(
    workers: list[Worker],
    rounds: int,
    *,
    num_passages: int,
    memory: str = "peak_mib",
    more: Callable[[float], list[str]] = lambda seconds: [],
) -> list[list[str]]:
    """A row for each variant: setting, rate, ratio to the reference, cosine, memory, ``more`` of its seconds."""
    with tempfile.TemporaryDirectory(prefix="winnow-vectors-") as name:
        paths = {worker.variant: str(Path(name) / f"{worker.variant}.npy") for worker in workers}
        settings = {}
        for worker in workers:
            settings[worker.variant] = worker.ask(choose=True, keep=paths[worker.variant])["setting"]
            print(f"{worker.variant}: {settings[worker.variant]}", flush=True)
        vectors = {variant: np.load(path) for variant, path in paths.items()}
    answers = in_turn(workers, rounds)
    for worker in workers:
        worker.close()
    seconds = {variant: [answer["seconds"] for answer in given] for variant, given in answers.items()}
    return [
        [
            f"{variant}, {settings[variant]}",
            f"{num_passages / statistics.median(seconds[variant]):,.1f}",
            spread(ratios(seconds[REFERENCE], seconds[variant])),
            f"{smallest_cosine(vectors[variant], vectors[REFERENCE]):.6f}",
            f"{max(answer[memory] for answer in answers[variant]):,.0f}",
            *more(statistics.median(seconds[variant])),
        ]
        for variant in vectors
    ]


def work(options: argparse.Namespace) -> None:
    """In a variant's own process: answer requests."""
    import torch

    torch.set_num_threads(options.threads)
    passages = read_passages(options.data)[: options.passages]
    if len(passages) < options.passages:
        raise SystemExit(f"the corpus has {len(passages)} passages, fewer than {options.passages}")
    library, precision = options.worker.split()
    directory = locate_model(options.encoder)
    if library == "winnow":
        ways = winnow_ways(directory, precision)
    else:
        ways = sentence_transformers_ways(directory, precision, batch_sizes=BATCH_SIZES)
    serve(Encoding(ways, passages).once)


class Encoding:
    """One way of encoding the passages; ``ways`` are its settings, by name, of which the fastest is kept."""

    def __init__(self, ways: Ways, passages: list[str]) -> None:
        self._ways = ways
        self._passages = passages
        self._setting = next(iter(ways))

    def once(self, *, choose: bool = False, keep: str | None = None) -> dict[str, Any]:
        """Seconds for all passages. ``choose`` finds the best setting first; vectors go to the file ``keep``."""
        if choose:
            self._choose()
        started, cpu_started = time.perf_counter(), time.process_time()
        vectors_ND = self._ways[self._setting](self._passages)
        result = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
        if keep:
            np.save(keep, vectors_ND)
        return {**result, "setting": self._setting}

    def _choose(self) -> None:
        # Every seventh, so that the part has the lengths of the whole; the best of two, after one to warm up.
        part = self._passages[::7]
        self._ways[self._setting](part)
        best = {name: min(_seconds(way, part) for _ in range(2)) for name, way in self._ways.items()}
        self._setting = min(best, key=best.__getitem__)


def winnow_ways(directory: Path, precision: str, *, device: str = "cpu", budgets: Sequence[int] = ()) -> Ways:
    """Winnow's encoder with each limit of tokens per batch; without any, with its default."""
    from winnow.modeling.config import EncoderConfig
    from winnow.modeling.encoder import DenseEncoder

    settings = {f"batches of {budget:,} tokens": {"batch_tokens": budget} for budget in budgets} or {"default": {}}
    configs = {
        name: EncoderConfig(model=str(directory), precision=precision, **more) for name, more in settings.items()
    }
    encoders = {name: DenseEncoder.load(directory, config, device=device) for name, config in configs.items()}
    return {name: partial(encoder.encode, side="passage") for name, encoder in encoders.items()}


def sentence_transformers_ways(
    directory: Path, precision: str, *, batch_sizes: Sequence[int], device: str = "cpu"
) -> Ways:
    """sentence-transformers' encoder with each batch size."""
    import torch
    from sentence_transformers import SentenceTransformer

    weights = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = SentenceTransformer(str(directory), device=device, model_kwargs={"dtype": weights})

    def encode(texts: list[str], batch_size: int) -> np.ndarray:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "autocast"):
            vectors_ND = model.encode(texts, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True)
        return vectors_ND.float().cpu().numpy()

    return {f"batches of {size}": partial(encode, batch_size=size) for size in batch_sizes}


def smallest_cosine(one_ND: np.ndarray, other_ND: np.ndarray) -> float:
    """The smallest cosine of two vectors of the same text."""
    one, other = (vectors.astype(np.float64) for vectors in (one_ND, other_ND))
    lengths_N = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths_N).min())


def _seconds(way: Callable[[list[str]], np.ndarray], texts: list[str]) -> float:
    started = time.perf_counter()
    way(texts)
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder in the BEIR layout; by default docstrings")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--passages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    OPTIONS = parser.parse_args()
    work(OPTIONS) if OPTIONS.worker else main(OPTIONS)
