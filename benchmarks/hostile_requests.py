"""One caller against all others: hostile requests, what became of them, and what they did to an innocent caller.

python benchmarks/hostile_requests.py [--passages 20000] [--seconds 20] [--tiny]

An innocent caller sends one search after another, the whole time: alone, beside a caller that sends ordinary searches
of 64 queries back to back, and beside each kind of hostile caller in turn. The goal: its 99 % beside a hostile caller
is at most three times that beside the ordinary one, nobody is answered 500, and the endpoint stays ready.
One process under uvicorn, without Ray. ``--tiny`` is a smoke run of a minute.
"""

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
from rounds import print_table
from served_versions import WORDS, make_version
from serving_speed import PORT

from winnow.api.keys import create_key

URL = f"http://127.0.0.1:{PORT}"
_PATIENCE_S = 35
_SEARCH, _EMBED, _ANSWER, _SWAP = "/v1/search", "/v1/embeddings", "/v1/answer", "/v1/admin/version"

Request = tuple[str, dict]
"""Path and body."""


@dataclass
class Seen:
    """What an innocent caller met, and what became of the others' requests."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    not_ready: int = 0

    @property
    def p99_ms(self) -> float:
        """The 99th percentile."""
        times = sorted(self.latencies_ms) or [float("nan")]
        return times[min(int(len(times) * 0.99), len(times) - 1)]


def ordinary(draws: random.Random, mode: str = "hybrid") -> Request:
    """64 questions of eight words."""
    return _SEARCH, {"queries": [_text(draws, 8) for _ in range(64)], "k": 10, "mode": mode}


def _text(draws: random.Random, count: int) -> str:
    return " ".join(draws.choices(WORDS, k=count))


def one_word_repeated(draws: random.Random, mode: str) -> Request:
    """64 queries of 4,000 characters of one word that many passages have."""
    word = draws.choice(WORDS)
    return _SEARCH, {"queries": [(f"{word} " * 4000)[:4000]] * 64, "mode": mode}


def many_words(draws: random.Random, mode: str) -> Request:
    """64 queries of 4,000 characters of different words."""
    return _SEARCH, {"queries": [_text(draws, 2000)[:4000] for _ in range(64)], "mode": mode}


def largest_answer(draws: random.Random) -> Request:
    """As many passages as one answer may have."""
    return _SEARCH, {"queries": [_text(draws, 2) for _ in range(16)], "k": 1000}


def too_large_an_answer(draws: random.Random) -> Request:
    """More passages than one answer may have."""
    return _SEARCH, {"queries": [_text(draws, 2) for _ in range(64)], "k": 1000}


def unknown_field(draws: random.Random) -> Request:
    """A filter on a field that no passage has."""
    return _SEARCH, {"query": _text(draws, 4), "filter": {"colour": "red"}}


def another_filter_each_time(draws: random.Random) -> Request:
    """A filter that was never asked for before, as in rotation among more than are kept."""
    return _SEARCH, {"query": _text(draws, 4), "filter": {"passage_id": [f"p{draws.randrange(10**6)}", "p1"]}}


def long_texts(draws: random.Random) -> Request:
    """64 texts to embed, of 15,000 characters each."""
    return _EMBED, {"model": "winnow", "input": [_text(draws, 4000)[:15_000] for _ in range(64)]}


def hanging_generator(draws: random.Random) -> Request:
    """A question for a generator that never answers."""
    return _ANSWER, {"query": _text(draws, 4)}


_REFERENCES = itertools.cycle(["a\0b", "~nobody/x", "x" * 4000, "/" + "d/" * 2000, "s3://bucket/version", "/nowhere"])


def strange_reference(_: random.Random) -> Request:
    """A swap to what does not exist, or cannot."""
    return _SWAP, {"retriever": next(_REFERENCES)}


HOSTILE: dict[str, Callable[[random.Random], Request]] = {
    **{f"one word repeated, {mode}": partial(one_word_repeated, mode=mode) for mode in ("bm25", "hybrid", "dense")},
    **{f"many words, {mode}": partial(many_words, mode=mode) for mode in ("bm25", "hybrid", "dense")},
    "largest answer": largest_answer,
    "too large an answer": too_large_an_answer,
    "unknown filter field": unknown_field,
    "another filter each time": another_filter_each_time,
    "long texts to embed": long_texts,
    "hanging generator": hanging_generator,
    "strange swap references": strange_reference,
}


class Caller:
    """Sends requests one after another from threads of its own until it is told to stop."""

    def __init__(self, make: Callable[[random.Random], Request], key: str, *, threads: int, pause_s: float = 0) -> None:
        self.statuses: Counter[str] = Counter()
        self._make = make
        self._key = key
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(threads)
        self._working = [self._pool.submit(self._call, random.Random(seed)) for seed in range(threads)]

    def stop(self) -> None:
        """Returns when the requests on their way are answered."""
        self._stopped.set()
        for each in self._working:
            each.result()
        self._pool.shutdown()

    def _call(self, draws: random.Random) -> None:
        with httpx.Client(base_url=URL, timeout=_PATIENCE_S, headers=_headers(self._key), trust_env=False) as http:
            while not self._stopped.is_set():
                path, body = self._make(draws)
                self.statuses[_status(http, path, body)] += 1
                self._stopped.wait(self._pause_s)


def _headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", "content-type": "application/json"}


def _status(http: httpx.Client, path: str, body: dict) -> str:
    try:
        return str(http.post(path, content=json.dumps(body)).status_code)
    except httpx.HTTPError as error:
        return type(error).__name__


def innocent(key: str, seconds: float) -> Seen:
    """One search of one question after another for ``seconds``."""
    seen, draws = Seen(), random.Random(7)
    until = time.perf_counter() + seconds
    with httpx.Client(base_url=URL, timeout=_PATIENCE_S, headers=_headers(key), trust_env=False) as http:
        while time.perf_counter() < until:
            started = time.perf_counter()
            seen.statuses[_status(http, _SEARCH, {"query": _text(draws, 6), "mode": "hybrid"})] += 1
            seen.latencies_ms.append(1000 * (time.perf_counter() - started))
            seen.not_ready += http.get("/ready").status_code != 200
    return seen


def beside(caller: Caller | None, key: str, seconds: float) -> Seen:
    """What the innocent caller sees beside ``caller``, which is stopped then."""
    time.sleep(0 if caller is None else min(1.0, seconds / 4))
    seen = innocent(key, seconds)
    if caller is not None:
        caller.stop()
        seen.others = caller.statuses
    return seen


def serve(version: Path, keys: Path) -> None:
    """In a worker: one process under uvicorn, with a generator that takes questions and never answers."""
    import socket

    from winnow.api.config import ServeConfig
    from winnow.engines.config import ServerConfig
    from winnow.serving.standalone import serve_alone

    silent = socket.create_server(("127.0.0.1", 0))
    generator = ServerConfig(kind="server", base_url=f"http://127.0.0.1:{silent.getsockname()[1]}/v1", model="silent")
    config = ServeConfig(port=PORT, cache_queries=0, keys=keys, generator=generator)
    serve_alone(config, reference=str(version))


def run(folder: Path, *, num_passages: int, seconds: float, threads: int) -> None:
    """Measure all kinds and print a table."""
    make_version(folder / "version", num_passages=num_passages)
    keys = folder / "keys.json"
    good, bad = (create_key(keys, name=name, scopes=("admin",)) for name in ("innocent", "hostile"))
    command = [sys.executable, __file__, "--worker", str(folder / "version"), str(keys)]
    process = subprocess.Popen(command)
    try:
        _wait_until_ready(process)
        alone = beside(None, good, seconds)
        usual = beside(Caller(ordinary, bad, threads=1), good, seconds)
        rows = [_row("alone", alone, usual), _row("ordinary searches of 64", usual, usual)]
        for name, make in HOSTILE.items():
            pause_s = 0.05 if make is strange_reference else 0.0
            rows.append(_row(name, beside(Caller(make, bad, threads=threads, pause_s=pause_s), good, seconds), usual))
            print(rows[-1], flush=True)
        header = ["beside", "its answers", "innocent's answers", "searches", "99 % ms", "of ordinary", "not ready"]
        print_table(header, rows)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_ready(process: subprocess.Popen) -> None:
    while process.poll() is None:
        try:
            if httpx.get(f"{URL}/ready", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise SystemExit(f"the endpoint ended with {process.returncode} before it was ready")


def _row(name: str, seen: Seen, usual: Seen) -> list[str]:
    counts = [", ".join(_counts(statuses)) or "-" for statuses in (seen.others, seen.statuses)]
    times = [f"{seen.p99_ms:.1f}", f"{seen.p99_ms / usual.p99_ms:.2f}"]
    return [name, *counts, str(len(seen.latencies_ms)), *times, str(seen.not_ready)]


def _counts(statuses: Counter[str]) -> Iterator[str]:
    return (f"{status}: {count:,}" for status, count in sorted(statuses.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=20, help="for each kind of caller")
    parser.add_argument("--threads", type=int, default=1, help="connections of a hostile caller")
    parser.add_argument("--tiny", action="store_true", help="300 passages, a second each")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "KEYS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(*map(Path, options.worker))
        return
    num_passages, seconds = (300, 1.0) if options.tiny else (options.passages, options.seconds)
    with tempfile.TemporaryDirectory(prefix="winnow-hostile-") as name:
        run(Path(name), num_passages=num_passages, seconds=seconds, threads=options.threads)


if __name__ == "__main__":
    main()
