"""Training and encoding on a GPU, measured against sentence-transformers, without Ray.

PYTHONPATH=platform python benchmarks/gpu_training.py [--parts training cache encoding profile] [--tiny]

Needs torch, transformers, pyarrow, tokenizers, peft, fsspec and tqdm; ir-measures; pydantic with pydantic-core,
annotated-types and typing-inspection; sentence-transformers 6.2 and, for its trainer, accelerate and datasets with dill
and multiprocess.
Where nothing can be downloaded, carry the missing ones as wheels.

A BERT of the base size with random weights, and texts of made-up words, each of them one token, with lengths as web
texts have them (synthetic_training.draw_problem). Every variant has a process of its own and is asked in turn.

training: (query, passage) pairs per second in bf16, one positive and seven negatives per query, as training_speed.py
measures them on a CPU; sentence-transformers is tried with its columns merged and apart, with and without processes
that tokenise ahead, and goes on with the fastest. The losses of 20 steps in fp32 are compared on small batches.
cache: a step with the gradient cache against a full one in bf16, and the distance of their gradients in fp32.
encoding: passages per second as encoding_speed.py measures them, each library at its best batch size.
profile: what the GPU spends its time on in a training step.

Utilisation counts real tokens only: 2 operations per weight of the linear layers and token, and 4 * length * width per
layer and token for attention, three times as much for training; recomputing and padding count as nothing.
``--tiny`` runs everything on a CPU with an encoder of two narrow layers, to see that it works.
"""

import argparse
import gc
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from encoding_speed import THEIRS, Encoding, compare, sentence_transformers_ways, winnow_ways
from made_up_encoder import BASE, TINY, forward_flops, write_encoder
from rounds import Worker, in_turn, print_table, ratios, serve, spread
from synthetic_training import Problem, draw_problem
from training_steps import Steps, gradients_apart
from training_variants import (
    Recipe,
    as_json,
    num_pairs,
    planned_batches,
    train_with_sentence_transformers,
    train_with_winnow,
)

PARTS = ["training", "cache", "encoding", "profile"]
PEAKS = {"H100 80GB HBM3": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations per second by device name."""
KERNELS = {
    "attention": ("flash", "fmha", "attention", "varlen"),
    "matrix products": ("gemm", "nvjet", "cutlass", "xmma", "cublas"),
    "normalisation": ("layer_norm", "layernorm"),
    "optimizer": ("multi_tensor", "adam"),
    "copies": ("memcpy", "memset", "copy", "cat"),
}
"""Parts of the names of kernels; the first that fits counts, the rest is elementwise."""
WINNOW, OTHER, PROFILE = "winnow", "sentence-transformers", "profile"
CACHED, FULL = "gradient cache", "full step"
WAYS = [{"columns": columns, "loaders": loaders} for columns in ("merged", "apart") for loaders in (0, 4)]


def compare_training(options: argparse.Namespace) -> None:
    """Rates, ratio, utilisation, memory and padding of both."""
    ours, theirs = (_start(name, options) for name in (WINNOW, OTHER))
    recipe, guard = _recipe(options), _guard_recipe(options)
    way = _best_way(theirs, options)
    one = ours.ask(recipe=as_json(guard), steps=options.guard_steps, untimed=1)["losses"]
    other = theirs.ask(recipe=as_json(guard), steps=options.guard_steps, untimed=1, **way)["losses"]
    apart = max(abs(a - b) for a, b in zip(one, other, strict=True))
    print(f"fp32 losses of {len(one)} steps at most {apart:.1e} apart, from {one[0]:.4f} to {one[-1]:.4f}")
    request = {"recipe": as_json(recipe), "steps": options.untimed + options.steps, "untimed": options.untimed}
    theirs.fixed = way
    answers = in_turn([ours, theirs], options.rounds, **request)
    for worker in (ours, theirs):
        worker.close()
    counted = [answer["seconds"] + answer["tokenising"] for answer in answers[WINNOW]]
    stepping, other = ([answer["seconds"] for answer in answers[name]] for name in (WINNOW, OTHER))
    flops = training_flops(_problem(options), recipe, options)
    rows = [_training_row(name, given, num_pairs(recipe, options.steps), flops) for name, given in answers.items()]
    print_table(["trainer", "pairs/s", "TFLOP/s", "utilisation", "padding", "GPU memory, MiB", "last loss"], rows)
    print(f"ratio {spread(ratios(other, stepping))}, with tokenising ahead counted {spread(ratios(other, counted))}")


def _training_row(name: str, answers: list[dict[str, Any]], pairs: int, flops: float) -> list[str]:
    seconds = statistics.median(answer["seconds"] for answer in answers)
    return [
        name,
        f"{pairs / seconds:,.0f}",
        f"{flops / seconds / 1e12:,.1f}",
        _utilisation(flops / seconds),
        f"{answers[-1]['padding']:.1%}",
        f"{max(answer['gpu_mib'] for answer in answers):,.0f}",
        f"{answers[-1]['losses'][-1]:.4f}",
    ]


def _best_way(worker: Worker, options: argparse.Namespace) -> dict[str, Any]:
    request = {"recipe": as_json(_recipe(options)), "steps": options.untimed + 10, "untimed": options.untimed}
    taken = []
    for way in WAYS:
        answer = worker.ask(**request, **way)
        taken.append(answer["seconds"])
        print(f"{OTHER}, {way}: {answer.get('failure') or format(taken[-1], '.2f')}", flush=True)
    return WAYS[min(range(len(WAYS)), key=taken.__getitem__)]


def compare_cache(options: argparse.Namespace) -> None:
    """Seconds of both kinds of step, their ratio, the distance of gradients, memory."""
    cached, full = (_start(name, options) for name in (CACHED, FULL))
    with tempfile.TemporaryDirectory(prefix="winnow-gradients-") as name:
        paths = [str(Path(name) / f"{number}.safetensors") for number in range(2)]
        for worker, path in zip((cached, full), paths, strict=True):
            # Small enough for several micro-batches: with one the two are the same computation.
            worker.ask(recipe=as_json(_guard_recipe(options)), micro_batch_tokens=1024, keep=path)
        apart = gradients_apart(*paths)
    request = {
        "recipe": as_json(_recipe(options)),
        "micro_batch_tokens": options.micro_batch_tokens,
        "repeats": options.steps,
    }
    for worker in (cached, full):
        worker.ask(**request)
    answers = in_turn([cached, full], options.rounds, **request)
    for worker in (cached, full):
        worker.close()
    seconds = {name: [answer["seconds"] for answer in given] for name, given in answers.items()}
    memory = {name: f"{max(answer['gpu_mib'] for answer in given):,.0f}" for name, given in answers.items()}
    rows = [[name, spread(seconds[name], ".4f"), memory[name]] for name in (CACHED, FULL)]
    print_table(["step", "seconds", "GPU memory, MiB"], rows)
    print(f"ratio {spread(ratios(seconds[CACHED], seconds[FULL]))}, fp32 gradients {apart:.1e} apart")


def compare_encoding(options: argparse.Namespace) -> None:
    """A row per encoder, and the utilisation of each."""
    workers = [_start(name, options) for name in ("winnow float32", "winnow auto", *THEIRS)]
    passages = list(_problem(options).passages.values())
    flops = forward_flops([len(text.split()) + 2 for text in passages], _sizes(options))
    rows = compare(
        workers,
        options.rounds,
        num_passages=len(passages),
        memory="gpu_mib",
        more=lambda seconds: [_utilisation(flops / seconds)],
    )
    header = ["encoder", "passages/s", f"ratio to {THEIRS[0]}", "smallest cosine", "GPU memory, MiB", "utilisation"]
    print_table(header, rows)


def show_profile(options: argparse.Namespace) -> None:
    """Where the time of a training step goes."""
    worker = _start(PROFILE, options)
    answer = worker.ask(recipe=as_json(_recipe(options)), steps=options.untimed + 10, untimed=options.untimed)
    worker.close()
    print(answer["table"])
    rows = [[name, f"{share:.1%}"] for name, share in answer["shares"].items()]
    print_table(["kernels", "of their time"], rows)
    print(f"the GPU is busy for {answer['busy']:.1%} of the time, with the profiler on")


def training_flops(problem: Problem, recipe: Recipe, options: argparse.Namespace) -> float:
    """Operations of the timed steps."""
    queries = {example.query_id: example.query for example in problem.examples}
    batches = planned_batches(problem, recipe, options.untimed + options.steps)[options.untimed :]
    texts = [queries[group.query_id] for batch in batches for group in batch.groups]
    texts += [problem.passages[passage_id] for batch in batches for passage_id in batch.passage_ids]
    return 3 * forward_flops([len(text.split()) + 2 for text in texts], _sizes(options))


def work(options: argparse.Namespace) -> None:
    """In a variant's own process: answer requests."""
    torch.set_num_threads(options.threads)
    problem, directory, name = _problem(options), Path(options.directory), options.worker
    knobs = {"micro_batch_tokens": options.micro_batch_tokens}
    if name in (CACHED, FULL):
        answer = _step_answers(directory, problem, use_cache=name == CACHED)
    elif name in (WINNOW, OTHER, PROFILE):
        run = {WINNOW: partial(train_with_winnow, **knobs), PROFILE: partial(profiled, **knobs), OTHER: _theirs}[name]

        def answer(recipe: dict[str, Any], **request: Any) -> dict[str, Any]:
            return run(directory, problem, Recipe(**recipe), **request)
    else:
        answer = Encoding(_ways(directory, name, options), list(problem.passages.values())).once
    serve(lambda **request: _with_gpu_memory(answer, request))


def _theirs(directory: Path, problem: Problem, recipe: Recipe, **request: Any) -> dict[str, Any]:
    try:
        return train_with_sentence_transformers(directory, problem, recipe, **request)
    except torch.OutOfMemoryError:
        return {"seconds": 1e9, "failure": "out of memory"}


def _step_answers(directory: Path, problem: Problem, *, use_cache: bool) -> Callable[..., dict[str, Any]]:
    @cache
    def steps(recipe: Recipe, micro_batch_tokens: int) -> Steps:
        return Steps(directory, problem, recipe, micro_batch_tokens=micro_batch_tokens, use_cache=use_cache)

    def answer(recipe: dict[str, Any], micro_batch_tokens: int, **request: Any) -> dict[str, Any]:
        return steps(Recipe(**recipe), micro_batch_tokens).once(**request)

    return answer


def _ways(directory: Path, name: str, options: argparse.Namespace) -> dict[str, Any]:
    library, precision = name.split()
    if library == WINNOW:
        return winnow_ways(directory, precision, device=options.device, budgets=[8192, 16384, 32768, 65536])
    sizes = [32, 64, 128, 256, 512]
    return sentence_transformers_ways(directory, precision, device=options.device, batch_sizes=sizes)


def profiled(directory: Path, problem: Problem, recipe: Recipe, **request: Any) -> dict[str, Any]:
    """The table of the profiler, shares of kernels by kind, and the share of the time in which the GPU computes."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    is_gpu = recipe.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    profiler = profile(activities=activities)
    seconds = train_with_winnow(directory, problem, recipe, **request, profiler=profiler)["seconds"]
    entries = profiler.key_averages()
    wanted = DeviceType.CUDA if is_gpu else DeviceType.CPU
    kernels: Counter[str] = Counter()
    for entry in entries:
        if entry.device_type == wanted:
            kernels[_kind(entry.key)] += entry.self_device_time_total if is_gpu else entry.self_cpu_time_total
    total = max(kernels.total(), 1)
    table = entries.table(sort_by="self_cuda_time_total" if is_gpu else "self_cpu_time_total", row_limit=25)
    shares = {kind: spent / total for kind, spent in kernels.most_common()}
    return {"seconds": seconds, "table": table, "shares": shares, "busy": total / 1e6 / seconds}


def _kind(kernel: str) -> str:
    name = kernel.lower()
    return next((kind for kind, parts in KERNELS.items() if any(part in name for part in parts)), "elementwise")


def _with_gpu_memory(answer: Callable[..., dict[str, Any]], request: dict[str, Any]) -> dict[str, Any]:
    """The answer and the most GPU memory that it held; what is left is given back for the other processes."""
    if not torch.cuda.is_available():
        return {**answer(**request), "gpu_mib": 0.0}
    torch.cuda.reset_peak_memory_stats()
    result = {**answer(**request), "gpu_mib": torch.cuda.max_memory_allocated() / 2**20}
    gc.collect()
    torch.cuda.empty_cache()
    return result


def _utilisation(flops_per_second: float) -> str:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    peak = next((peak for part, peak in PEAKS.items() if part in name), None)
    return "unknown" if peak is None else f"{flops_per_second / peak:.1%}"


def _problem(options: argparse.Namespace) -> Problem:
    steps = options.untimed + max(options.steps, 10)
    num_queries = max(steps * options.batch_size, options.guard_steps * _guard_recipe(options).batch_size)
    return draw_problem(num_queries=num_queries, num_negatives=options.negatives)


def _recipe(options: argparse.Namespace) -> Recipe:
    return Recipe(options.batch_size, options.negatives, "bf16", options.device)


def _guard_recipe(options: argparse.Namespace) -> Recipe:
    return Recipe(8, options.negatives, "fp32", options.device)


def _sizes(options: argparse.Namespace) -> Mapping[str, int]:
    return TINY if options.tiny else BASE


def _start(name: str, options: argparse.Namespace) -> Worker:
    return Worker(name, threads=options.threads, arguments=["--directory", options.directory])


def main(options: argparse.Namespace) -> None:
    """Measure the parts in turn."""
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if options.device == 'cuda' else 'CPU'}")
    parts = dict(zip(PARTS, (compare_training, compare_cache, compare_encoding, show_profile), strict=True))
    with tempfile.TemporaryDirectory(prefix="winnow-encoder-") as name:
        options.directory = str(write_encoder(Path(name), _sizes(options)))
        for part in options.parts:
            print(f"\n{part}, load {os.getloadavg()[0]:.1f}", flush=True)
            parts[part](options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tiny", action="store_true", help="on a CPU, to see that it works")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30, help="timed steps of a round")
    parser.add_argument("--untimed", type=int, default=10, help="steps of a round before them")
    parser.add_argument("--guard-steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=7)
    parser.add_argument("--micro-batch-tokens", type=int, default=16384)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    OPTIONS = parser.parse_args()
    OPTIONS.device = "cpu" if OPTIONS.tiny else "cuda"
    work(OPTIONS) if OPTIONS.worker else main(OPTIONS)
