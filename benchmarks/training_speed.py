"""Training on a CPU, measured: against sentence-transformers' trainer, with the gradient cache, by objective.

python benchmarks/training_speed.py [--parts loop cache objectives] [--data FOLDER] [--rounds 5]

all-MiniLM-L6-v2 on docstrings, or on a folder in the BEIR layout; one positive and three negatives per query. Every
variant has a process of its own and is asked in turn, so memory is its own (peak resident memory of the process, and
what it had before the first step).

loop: (query, passage) pairs per second of Winnow's loop against SentenceTransformerTrainer; training_variants.py says
what is equal. First sentence-transformers is timed in both ways of encoding its columns, of which the faster one goes
on, and the losses of 20 steps (of 8 queries) are compared. Winnow tokenises before the first step: its rate is given
with those seconds counted and without.
cache: a step with the gradient cache against a full one on the same batch, and how far their gradients are apart.
objectives: a step with each objective against one with InfoNCE on the same batch (of 8 queries), in one process.
"""

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rounds import Worker, in_turn, print_table, ratios, serve, spread
from synthetic_training import ENCODER, Problem, read_problem
from training_steps import OBJECTIVES, ObjectiveSteps, Steps, gradients_apart
from training_variants import Recipe, num_pairs, train_with_sentence_transformers, train_with_winnow

from winnow.models import locate_model

PARTS = ["loop", "cache", "objectives"]
THEIRS = ["sentence-transformers merged", "sentence-transformers apart"]
CACHED, FULL = "gradient cache", "full step"
GUARD_BATCH = 8
"""Queries per batch where losses are compared and where objectives are: many steps, which need not be large."""


def compare_loops(options: argparse.Namespace, precision: str) -> list[str]:
    """A row of the table: rates, ratio, distance of the losses, padding, memory."""
    ours, *theirs = (_start(f"{name} {precision}", options) for name in ("winnow", *THEIRS))
    request = {"batch_size": options.batch_size, "untimed": options.untimed}
    trial = [worker.ask(**request, steps=options.untimed + 2)["seconds"] for worker in theirs]
    print(f"{precision}: 2 steps with columns merged {trial[0]:.1f} s, apart {trial[1]:.1f} s", flush=True)
    chosen, left = theirs if trial[0] <= trial[1] else reversed(theirs)
    left.close()
    guard = {"batch_size": GUARD_BATCH, "untimed": 1, "steps": options.guard_steps}
    one, other = (worker.ask(**guard)["losses"] for worker in (ours, chosen))
    apart = max(abs(a - b) for a, b in zip(one, other, strict=True))
    print(f"{precision}: losses of {len(one)} steps at most {apart:.1e} apart, from {one[0]:.4f} to {one[-1]:.4f}")
    answers = in_turn([ours, chosen], options.rounds, **request, steps=options.untimed + options.steps)
    for worker in (ours, chosen):
        worker.close()
    return _loop_row(precision, answers[ours.variant], answers[chosen.variant], chosen.variant, apart, options)


def _loop_row(
    precision: str,
    ours: list[dict[str, Any]],
    theirs: list[dict[str, Any]],
    name: str,
    apart: float,
    options: argparse.Namespace,
) -> list[str]:
    pairs = num_pairs(_recipe(options, precision, options.batch_size), options.steps)
    stepping = [answer["seconds"] for answer in ours]
    counted = [answer["seconds"] + answer["tokenising"] for answer in ours]
    other = [answer["seconds"] for answer in theirs]
    return [
        f"{precision}, {name.split()[1]}",
        f"{pairs / statistics.median(counted):.1f}",
        f"{pairs / statistics.median(other):.1f}",
        spread(ratios(other, counted)),
        spread(ratios(other, stepping)),
        f"{apart:.1e}",
        f"{ours[-1]['padding']:.1%} / {theirs[-1]['padding']:.1%}",
        _memory(ours, theirs),
    ]


def compare_cache(options: argparse.Namespace) -> list[str]:
    """A row of the table: seconds of both, ratio, distance of the gradients, memory."""
    cached, full = (_start(variant, options) for variant in (CACHED, FULL))
    with tempfile.TemporaryDirectory(prefix="winnow-gradients-") as name:
        paths = [str(Path(name) / f"{variant}.safetensors") for variant in ("cached", "full")]
        for worker, path in zip((cached, full), paths, strict=True):
            worker.ask(keep=path)
        apart = gradients_apart(*paths)
    answers = in_turn([cached, full], options.rounds)
    for worker in (cached, full):
        worker.close()
    seconds = {name: [answer["seconds"] for answer in given] for name, given in answers.items()}
    return [
        spread(seconds[CACHED]),
        spread(seconds[FULL]),
        spread(ratios(seconds[CACHED], seconds[FULL])),
        f"{apart:.1e}",
        _memory(answers[CACHED], answers[FULL]),
    ]


def compare_objectives(options: argparse.Namespace) -> list[list[str]]:
    """A row per objective: seconds of a step, its ratio to InfoNCE's of the same round, and of the loss alone."""
    worker = _start("objectives", options)
    answers = in_turn([worker], options.rounds)[worker.variant]
    worker.close()
    first = [answer["steps"]["InfoNCE"] for answer in answers]
    return [
        [
            name,
            spread([answer["steps"][name] for answer in answers]),
            spread(ratios([answer["steps"][name] for answer in answers], first), ".3f"),
            f"{statistics.median(answer['losses'][name] for answer in answers) * 1000:.2f}",
        ]
        for name in OBJECTIVES
    ]


def work(options: argparse.Namespace) -> None:
    """In a variant's own process: answer requests."""
    torch.set_num_threads(options.threads)
    name, problem, directory = options.worker, _problem(options), locate_model(options.encoder)
    if name in (CACHED, FULL):
        serve(_steps(directory, problem, options, options.batch_size, use_cache=name == CACHED).once)
    elif name == "objectives":
        serve(ObjectiveSteps(_steps(directory, problem, options, GUARD_BATCH)).once)
    else:
        library, *columns, precision = name.split()
        if library == "winnow":
            run = partial(train_with_winnow, **_knobs(options))
        else:
            run = partial(train_with_sentence_transformers, columns=columns[0])

        def answer(batch_size: int, **request: int) -> dict[str, Any]:
            return run(directory, problem, _recipe(options, precision, batch_size), **request)

        serve(answer)


def _steps(
    directory: Path, problem: Problem, options: argparse.Namespace, batch_size: int, *, use_cache: bool = False
) -> Steps:
    recipe = _recipe(options, "fp32", batch_size)
    most = recipe.config(**_knobs(options)).micro_batch_tokens
    return Steps(directory, problem, recipe, micro_batch_tokens=most, use_cache=use_cache)


def _start(variant: str, options: argparse.Namespace) -> Worker:
    return Worker(variant, threads=options.threads)


def _problem(options: argparse.Namespace) -> Problem:
    steps = options.untimed + max(options.steps, 2)
    num_queries = max(options.guard_steps * GUARD_BATCH, steps * options.batch_size)
    return read_problem(options.data, num_queries=num_queries, num_negatives=options.negatives)


def _recipe(options: argparse.Namespace, precision: str, batch_size: int) -> Recipe:
    return Recipe(batch_size, options.negatives, precision)


def _knobs(options: argparse.Namespace) -> dict[str, Any]:
    return {"micro_batch_tokens": options.micro_batch_tokens} if options.micro_batch_tokens else {}


def _memory(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    peaks = [f"{given[-1]['peak_mib']:,.0f} ({given[-1]['base_mib']:,.0f})" for given in (ours, theirs)]
    return " / ".join(peaks)


def main(options: argparse.Namespace) -> None:
    """Measure the parts in turn and print their tables."""
    if "loop" in options.parts:
        rows = [compare_loops(options, precision) for precision in options.precisions]
        header = ["precision, columns", "winnow, pairs/s", "sentence-transformers", "ratio", "tokenising not counted"]
        print_table([*header, "losses apart", "padding", "memory, MiB (before)"], rows)
    if "cache" in options.parts:
        header = ["cached step, s", "full step, s", "ratio", "gradients apart", "memory, MiB (before)"]
        print_table(header, [compare_cache(options)])
    if "objectives" in options.parts:
        print_table(["objective", "step, s", "ratio", "loss alone, ms"], compare_objectives(options))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--data", type=Path, help="a folder in the BEIR layout; by default docstrings")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a round")
    parser.add_argument("--untimed", type=int, default=1, help="steps of a round before them")
    parser.add_argument("--guard-steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--negatives", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--micro-batch-tokens", type=int, help="by default what the configuration says")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    OPTIONS = parser.parse_args()
    work(OPTIONS) if OPTIONS.worker else main(OPTIONS)
