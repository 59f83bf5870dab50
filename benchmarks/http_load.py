"""Load on a served retriever, from a process of its own: a number of clients, or requests at a given rate.

python benchmarks/http_load.py http://127.0.0.1:8000 --clients 32 --seconds 10
python benchmarks/http_load.py http://127.0.0.1:8000 --rate 50 --seconds 60

Clients ask one after the other, each as soon as it has its answer (closed loop). A rate does not wait for answers (open
loop, seeded exponential gaps), so a server that is too slow meets a growing queue, as it would in earnest. Prints JSON.

The client is a bare socket: with a full HTTP library it would cost as much CPU as the server it measures.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

WORDS = ["how", "do", "I", "copy", "sort", "open", "parse", "join", "split", "count", "list", "file", "path", "date"]


_PATIENCE_S = 30
"""How long a request waits for its answer, and for a connection."""


@dataclass
class Outcome:
    """What became of all requests."""

    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    mixed: int = 0
    """Answers whose passages do not belong to the version they name (``--marks``)."""
    without_retry_after: int = 0
    """Answers 429 or 503 that do not say when to try again."""

    def summary(self) -> dict[str, object]:
        """Numbers as JSON values."""
        times = sorted(self.latencies_ms) or [0.0]
        return {
            "requests": sum(self.statuses.values()),
            "per_second": self.statuses["200"] / max(self.seconds, 1e-9),
            "statuses": dict(self.statuses),
            "versions": dict(self.versions),
            "mixed": self.mixed,
            "without_retry_after": self.without_retry_after,
            "median_ms": statistics.median(times),
            "p95_ms": times[int(len(times) * 0.95)],
            "p99_ms": times[min(int(len(times) * 0.99), len(times) - 1)],
        }


class Connection:
    """One HTTP/1.1 connection that is kept open, until something goes wrong on it."""

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._authorization = f"authorization: Bearer {key}\r\n" if key else ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[str, dict[str, str], bytes]:
        """Status, headers and body of the answer; a failed connection has a status of its own."""
        try:
            # As HTTP libraries do: what the server has closed while it was idle is not written to.
            if self._streams is None or self._streams[0].at_eof():
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            head = (
                f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
                f"{self._authorization}content-length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            return await self._read(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self._streams = None
            return type(error).__name__, {}, b""

    def forget(self) -> None:
        """Connect anew the next time: an answer that comes after all is not for the next request."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self._streams = None
        return head[0].split(" ")[1], headers, body


class Load:
    """Sends searches and notes what comes back."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.outcome = Outcome()
        self._options = options
        self._draws = random.Random(options.seed)
        self._marks: dict[str, str] = dict(mark.split("=") for mark in options.marks)

    async def closed(self) -> None:
        """``--clients`` clients, each asking as soon as it has its answer."""
        until = time.perf_counter() + self._options.seconds

        async def client() -> None:
            connection = Connection(self._options.url, self._options.key)
            while time.perf_counter() < until:
                await self._ask(connection)

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(self._options.clients)))
        self.outcome.seconds = time.perf_counter() - started

    async def open(self) -> None:
        """``--rate`` requests a second, whatever the answers do."""
        free: list[Connection] = []
        working: set[asyncio.Task[None]] = set()

        async def one() -> None:
            connection = free.pop() if free else Connection(self._options.url, self._options.key)
            await self._ask(connection)
            free.append(connection)

        started = due = time.perf_counter()
        while due - started < self._options.seconds:
            due += self._draws.expovariate(self._options.rate)
            await asyncio.sleep(due - time.perf_counter())
            working.add(task := asyncio.create_task(one()))
            task.add_done_callback(working.discard)
        await asyncio.gather(*working)
        self.outcome.seconds = time.perf_counter() - started

    async def _ask(self, connection: Connection) -> None:
        query = " ".join(self._draws.choices(WORDS, k=self._draws.randint(5, 12)))
        body = json.dumps({"query": query, "k": self._options.k, "mode": self._options.mode}).encode()
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                status, headers, answer = await connection.post("/v1/search", body)
        except TimeoutError:
            connection.forget()
            status, headers, answer = f"none in {_PATIENCE_S} s", {}, b""
        self.outcome.latencies_ms.append((time.perf_counter() - started) * 1e3)
        self.outcome.statuses[status] += 1
        if status == "200":
            self._look_into(json.loads(answer))
        elif status in ("429", "503") and "retry-after" not in headers:
            self.outcome.without_retry_after += 1

    def _look_into(self, answer: dict) -> None:
        self.outcome.versions[answer["version"]] += 1
        if mark := self._marks.get(answer["version"]):
            self.outcome.mixed += any(not hit["passage_id"].startswith(mark) for hit in answer["results"][0])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    shape = parser.add_mutually_exclusive_group(required=True)
    shape.add_argument("--clients", type=int, help="clients that ask one after the other")
    shape.add_argument("--rate", type=float, help="requests a second, sent without waiting")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--mode", default="dense")
    parser.add_argument("--key", help="API key")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument(
        "--marks", nargs="*", default=[], metavar="VERSION=PREFIX", help="ids that a version's passages have"
    )
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    load = Load(options)
    asyncio.run(load.closed() if options.clients else load.open())
    json.dump(load.outcome.summary(), sys.stdout)


if __name__ == "__main__":
    main()
