"""Training on Ray, disturbed: a worker, the driver and a whole node are killed; the encoder must not care.

python benchmarks/training_faults.py [--queries 96]

Two nodes on this machine with a CPU each, all-MiniLM-L6-v2 in fp32, two workers. Runs: undisturbed; a worker killed by
SIGKILL; the driver killed and the same command run again; elastic (1 to 2 workers), with a node taken away and given
back. Printed for each: the largest difference of a parameter from the undisturbed run (0 means the same bits; another
number of workers rounds differently), its steps, those that were taken twice, and how many workers each number of steps
had. Linux; about 10 minutes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import psutil
from safetensors.torch import load_file
from synthetic_training import ENCODER, read_problem, write_tokens

import winnow.cluster  # noqa: F401  (sets Ray's switches before it is imported)
from winnow import schema
from winnow.labels.sampling import SamplingConfig
from winnow.losses.config import LossConfig
from winnow.modeling.config import EncoderConfig
from winnow.modeling.tokenizing import TextTokenizer
from winnow.models import locate_model
from winnow.training.config import TrainConfig
from winnow.training.job import TrainingJob

CONFIG = TrainConfig(
    loss=LossConfig(objective="SumMargLH", temperature=0.05),
    sampling=SamplingConfig(group_size=4),
    batch_size=8,
    num_workers=2,
    checkpoint_every_steps=4,
    max_failures=10,
)
STEPS = "steps.jsonl"


class StepLog:
    """Writes down each step with the number of workers and their first one's process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        import torch.distributed as dist

        workers = dist.get_world_size() if dist.is_initialized() else 1
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "workers": workers, "pid": os.getpid()}) + "\n")


class Run:
    """One training run and the driver process that waits for it."""

    def __init__(self, address: str, data: Path, folder: Path, *, elastic: bool = False) -> None:
        self.folder = folder
        folder.mkdir()
        self._command = [sys.executable, __file__, "--drive", address, str(data), str(folder), str(int(elastic))]
        self.start()

    def start(self) -> None:
        log = (self.folder / "driver.log").open("a")
        self._driver = subprocess.Popen(self._command, stdout=log, stderr=log)

    def steps(self) -> list[dict[str, int]]:
        path = self.folder / STEPS
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_until(self, step: int, *, workers: int | None = None) -> None:
        """Return when ``step`` was taken, by that many workers if it is given; or the run has ended."""
        while self._driver.poll() is None:
            taken = [row for row in self.steps() if row["step"] >= step and workers in (None, row["workers"])]
            if taken:
                return
            time.sleep(0.1)

    def kill_worker(self) -> None:
        os.kill(self.steps()[-1]["pid"], signal.SIGKILL)

    def kill_driver(self) -> None:
        children = psutil.Process(self._driver.pid).children(recursive=True)
        self._driver.kill()
        self._driver.wait()
        psutil.wait_procs(children, timeout=60)

    def finish(self) -> int:
        return self._driver.wait()


def drive(address: str, data: str, folder: str, elastic: str) -> None:
    """The driver: what ``winnow train`` does for a stage."""
    import ray

    from winnow.cluster.training import train_on_ray

    here = str(Path(__file__).parent)
    ray.init(address=address, logging_level="error", runtime_env={"env_vars": {"PYTHONPATH": here}})
    job = TrainingJob(
        encoder=EncoderConfig(model=ENCODER),
        examples=Path(data) / "examples.parquet",
        tokens=Path(data) / "tokens",
        config=CONFIG.model_copy(update={"num_workers": (1, 2)}) if int(elastic) else CONFIG,
        seed=13,
        checkpoints=str(Path(folder) / "checkpoints"),
        output=Path(folder) / "encoder",
        logger=StepLog(Path(folder) / STEPS),
    )
    train_on_ray(job)


def difference(one: Path, other: Path) -> float:
    """The largest difference of a parameter."""
    weights, others = (load_file(folder / "encoder" / "model.safetensors") for folder in (one, other))
    return max((weights[name] - others[name]).abs().max().item() for name in weights)


def row(name: str, run: Run, undisturbed: Path) -> str:
    """A row of the table."""
    if code := run.finish():
        tail = (run.folder / "driver.log").read_text().splitlines()[-5:]
        return f"| {name} | the driver ended with {code}: {' '.join(tail)[-300:]} | | | |"
    steps = run.steps()
    last = {row["step"]: row["workers"] for row in steps}
    shares = ", ".join(f"{count} with {workers}" for workers, count in sorted(Counter(last.values()).items()))
    apart = difference(run.folder, undisturbed)
    return f"| {name} | {apart:.1e} | {len(last)} | {len(steps) - len(last)} | {shares} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=96)
    options = parser.parse_args()
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="winnow-faults-") as name:
        folder = Path(name)
        problem = read_problem(None, num_queries=options.queries, num_negatives=3)
        tokenizer = TextTokenizer.load(locate_model(ENCODER))
        write_tokens(problem, tokenizer.tokenize, folder / "tokens")
        table = schema.to_table(problem.examples, schema.TRAINING_EXAMPLES)
        schema.write_dataset(folder / "examples.parquet", table)
        store = {"object_store_memory": 100 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **store})
        try:
            _disturb(cluster, {"num_cpus": 1, **store}, folder)
        finally:
            cluster.shutdown()


def _disturb(cluster, node: Mapping[str, int], folder: Path) -> None:
    other = cluster.add_node(**node)
    print("| run | parameters apart | steps | taken twice | steps by workers |\n|---|---:|---:|---:|---|", flush=True)
    calm = Run(cluster.address, folder, folder / "calm")
    print(row("undisturbed", calm, folder / "calm"), flush=True)

    killed = Run(cluster.address, folder, folder / "worker")
    killed.wait_until(6)
    killed.kill_worker()
    print(row("worker killed", killed, folder / "calm"), flush=True)

    again = Run(cluster.address, folder, folder / "driver")
    again.wait_until(6)
    again.kill_driver()
    again.start()
    print(row("driver killed, command run again", again, folder / "calm"), flush=True)

    elastic = Run(cluster.address, folder, folder / "elastic", elastic=True)
    elastic.wait_until(5)
    cluster.remove_node(other, allow_graceful=False)
    elastic.wait_until(5, workers=1)
    elastic.wait_until(9, workers=1)
    cluster.add_node(**node)
    print(row("node lost, and another one joined (1 to 2 workers)", elastic, folder / "calm"), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        drive(*sys.argv[2:])
    else:
        main()
