"""What benchmarks that compare two libraries share: a process for each variant, asked in turn, and tables.

A variant lives in a process of its own, so its memory is its own and it pays for its imports once; the rounds go from
one to the next, so that a slower minute of the machine falls on all of them.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_MARK = "RESULT "


class Worker:
    """The process of one variant: ``ask`` sends it a request and waits for the answer."""

    def __init__(self, variant: str, *, threads: int, arguments: Sequence[str] = ()) -> None:
        limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
        quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        command = [sys.executable, *sys.argv, *arguments, "--worker", variant]
        environment = {**os.environ, **limits, **quiet}
        self.variant = variant
        self.fixed: dict[str, Any] = {}
        """Sent with every request."""
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (lives as long as the process)
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to ``request``; ends the benchmark if the process has ended."""
        print(json.dumps({**self.fixed, **request}), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith(_MARK):
                return json.loads(line.removeprefix(_MARK))
        code = self._process.wait()
        self._said.seek(0)
        raise SystemExit(f"{self._said.read()[-5000:]}\nthe process of {self.variant!r} ended with exit code {code}")

    def close(self) -> None:
        """Let the process end."""
        self._process.stdin.close()
        self._process.wait()


def serve(answer: Callable[..., Mapping[str, Any]]) -> None:
    """In a variant's process: answer one request for each line that comes in. Adds the process's peak memory."""
    base = _memory_mib("VmRSS")
    for line in sys.stdin:
        result = {**answer(**json.loads(line)), "base_mib": base, "peak_mib": _memory_mib("VmHWM")}
        print(_MARK + json.dumps(result), flush=True)


def in_turn(workers: Sequence[Worker], rounds: int, **request: Any) -> dict[str, list[dict[str, Any]]]:
    """What each worker answers in each of ``rounds``; every other round goes through them backwards."""
    answers: dict[str, list[dict[str, Any]]] = {worker.variant: [] for worker in workers}
    for number in range(rounds):
        for worker in workers if number % 2 == 0 else reversed(workers):
            answers[worker.variant].append(worker.ask(**request))
        said = ", ".join(f"{name} {given[-1]['seconds']:.2f} s" for name, given in answers.items())
        print(f"round {number + 1}: {said}; load {os.getloadavg()[0]:.1f}", flush=True)
    return answers


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median and range.

    >>> spread([3.0, 1.0, 2.0])
    '2.00 (1.00 to 3.00)'
    """
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratio of each round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A markdown table."""
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")


def _memory_mib(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status).group(1)) / 1024
