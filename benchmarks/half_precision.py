"""Gradients in half precision that are added up in full, against one sum in half precision per step: what does it cost?

python benchmarks/half_precision.py [--precision bf16] [--rounds 7] [--batch-size 32] [--micro-batch-tokens 1024]

Both ways compute the same batch in a process of their own, in turn: steps/s, peak memory, and how far the gradient is
from that in fp32. "one sum" shares one graph of half-precision weights among all micro-batches of a side, as
torch.autocast does; "sums of four" is what training does. With few micro-batch tokens there are many micro-batches.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from rounds import Worker, in_turn, print_table, ratios, serve, spread
from synthetic_training import ENCODER, read_problem
from training_steps import Steps, gradients_apart
from training_variants import Recipe

from winnow.models import locate_model
from winnow.training import encoding

ONE_SUM, SUMS_OF_FOUR, FULL = "one sum", "sums of four", "fp32"


def main(options: argparse.Namespace) -> None:
    workers = [Worker(name, threads=options.threads) for name in (ONE_SUM, SUMS_OF_FOUR, FULL)]
    with tempfile.TemporaryDirectory(prefix="winnow-half-") as folder:
        for worker in workers:
            worker.ask(keep=str(Path(folder) / worker.variant))
        apart = {
            worker.variant: gradients_apart(str(Path(folder) / worker.variant), str(Path(folder) / FULL))
            for worker in workers
        }
    workers.pop().close()
    answers = in_turn(workers, options.rounds, repeats=options.steps)
    seconds = {name: [answer["seconds"] for answer in given] for name, given in answers.items()}
    header = ["way", "steps/s", "ratio of steps/s", "gradient off", "peak memory, MiB"]
    rows = [
        [
            name,
            f"{len(given) / sum(given):.3f}",
            spread(ratios(seconds[ONE_SUM], given)),
            f"{apart[name]:.1e}",
            f"{answers[name][-1]['peak_mib']:,.0f}",
        ]
        for name, given in seconds.items()
    ]
    print_table(header, rows)
    for worker in workers:
        worker.close()


def work(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    problem = read_problem(options.data, num_queries=options.batch_size, num_negatives=options.negatives)
    precision = "fp32" if options.worker == FULL else options.precision
    if options.worker == ONE_SUM:
        encoding.MICRO_BATCHES_PER_SUM = 10**9
    recipe = Recipe(options.batch_size, options.negatives, precision)
    steps = Steps(locate_model(options.encoder), problem, recipe, micro_batch_tokens=options.micro_batch_tokens)

    def answer(**request: Any) -> dict[str, Any]:
        return steps.once(**request)

    serve(answer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=["bf16", "fp16"], default="bf16")
    parser.add_argument("--data", type=Path, help="a folder in the BEIR layout; by default docstrings")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps of a round")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--negatives", type=int, default=3)
    parser.add_argument("--micro-batch-tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    OPTIONS = parser.parse_args()
    work(OPTIONS) if OPTIONS.worker else main(OPTIONS)
