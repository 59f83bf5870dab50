"""Judging with a real model, killed and started again, against judging in one go: what differs?

python benchmarks/resume_real.py [--queries 48] [--set annotate.engine.kind=vllm ...]

Runs `winnow pool` and `winnow annotate` on the example (SmolLM2-135M, BM25 pools): once undisturbed, once with its
driver killed by SIGKILL when a third and when two thirds of the parts are stored. Half precision rounds differently in
other batches, so scores may differ in their last digits. Printed: queries stored at each kill, the largest difference
of a score, and labels that flipped (a query's positives under the default label policy).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from winnow.labels.config import LabelConfig
from winnow.labels.from_judgments import split_pool
from winnow.pooling.order import PoolOrder
from winnow.records import Judgment

EXAMPLE = Path(__file__).parents[1] / "examples" / "pydocs"
BATCH = 4


def command(verb: str, output: Path, questions: Path, more: list[str]) -> list[str]:
    """One verb on the example's first questions."""
    settings = [
        f"output={output}",
        f"data.train.queries={questions}",
        "pool.sources=[{kind: bm25, depth: 10}]",
        f"annotate.queries_per_batch={BATCH}",
        "annotate.max_failed_share=1.0",
        *more,
    ]
    options = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-m", "winnow.cli", verb, "--config", str(EXAMPLE / "run.yaml"), *options]


def parts(output: Path) -> int:
    return len(list((output / "annotate" / "evidence").glob("*/*.parquet")))


def kill_at(count: int, output: Path, arguments: list[str]) -> None:
    """Start judging, and kill its driver when ``count`` parts are stored; returns when its actors are gone."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while parts(output) < count:
        if process.poll() is not None:
            raise SystemExit(f"judging ended with {process.returncode} before it could be killed")
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    psutil.wait_procs(children, timeout=60)


def judgments(output: Path) -> dict[str, list[Judgment]]:
    (path,) = (output / "annotate").glob("*/judgments.parquet")
    found: dict[str, list[Judgment]] = {}
    for row in pq.read_table(path).to_pylist():
        found.setdefault(row["query_id"], []).append(Judgment(row["passage_id"], utility_score=row["utility_score"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=48)
    parser.add_argument("--set", dest="more", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-resume-") as name:
        folder = Path(name)
        questions, calm, killed = folder / "questions.jsonl", folder / "calm", folder / "killed"
        lines = (EXAMPLE / "train.jsonl").read_text().splitlines(keepends=True)
        questions.write_text("".join(lines[: options.queries]))
        for output in (calm, killed):
            subprocess.run(command("pool", output, questions, options.more), check=True, stdout=subprocess.DEVNULL)
        subprocess.run(command("annotate", calm, questions, options.more), check=True, stdout=subprocess.DEVNULL)
        arguments = command("annotate", killed, questions, options.more)
        num_parts = -(-options.queries // BATCH)
        for count in (num_parts // 3, 2 * num_parts // 3):
            kill_at(count, killed, arguments)
            print(f"killed with {parts(killed) * BATCH} of {options.queries} queries stored", flush=True)
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        print(next(line for line in done.stdout.splitlines() if line.startswith("annotate: judged")))
        report(judgments(calm), judgments(killed))


def report(calm: dict[str, list[Judgment]], killed: dict[str, list[Judgment]]) -> None:
    """Print how far the two lie apart."""
    scores = [
        {(query, j.passage_id): j.utility_score for query in each for j in each[query]} for each in (calm, killed)
    ]
    assert scores[0].keys() == scores[1].keys(), "the two runs judged other pairs"
    largest = max(abs(scores[0][pair] - scores[1][pair]) for pair in scores[0])
    positives = [
        {
            query: {p.passage_id for p in split_pool(of, "score", LabelConfig(), PoolOrder(query, {}, 13)).positives}
            for query, of in each.items()
        }
        for each in (calm, killed)
    ]
    flipped = sum(len(positives[0][query] ^ positives[1][query]) for query in positives[0])
    total = sum(map(len, positives[0].values()))
    print(f"{len(scores[0]):,} scores, largest difference {largest:.4f}; {flipped} of {total} positives flipped")


if __name__ == "__main__":
    main()
