"""A small training problem, and gloo processes that work on it together."""

import multiprocessing
import os
import random
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from fakes import ListLogger, MeanTower
from safetensors.torch import save_file

from winnow.files import write_json
from winnow.labels.sampling import SamplingConfig
from winnow.losses.config import LossConfig
from winnow.losses.module import build_loss
from winnow.records import LabelledPassage, TrainingExample
from winnow.training.batches import GlobalBatch, Schedule
from winnow.training.config import TrainConfig
from winnow.training.gradients import GradientStep
from winnow.training.loop import Training
from winnow.training.tokens import TOKENS, TokenStore

LOSSES = {
    "InfoNCE": LossConfig(objective="InfoNCE", temperature=2.0),
    "JointLH": LossConfig(objective="JointLH", temperature=2.0),
    "SumMargLH": LossConfig(objective="SumMargLH", temperature=2.0),
    "LSEPair": LossConfig(objective="LSEPair", temperature=2.0),
    "LSEPair min max": LossConfig(objective="LSEPair", temperature=2.0, pair_positives="min", pair_negatives="max"),
    "KL": LossConfig(objective="KL", temperature=2.0, utility_temperature=0.5),
    "MarginMSE": LossConfig(objective="MarginMSE", temperature=2.0, utility_temperature=0.5),
    "learned": LossConfig(objective="SumMargLH", temperature=2.0, learn_temperature=True),
}
TRAIN = TrainConfig(
    loss=LOSSES["LSEPair"],
    sampling=SamplingConfig(group_size=4, max_positives=2),
    epochs=2,
    batch_size=5,
    learning_rate=0.05,
    use_dropout=True,
    checkpoint_every_steps=3,
    micro_batch_tokens=30,
)


def examples() -> list[TrainingExample]:
    """20 queries over 30 passages that they share; every fourth has no positive."""
    draw = random.Random(3)
    made = []
    for number in range(20):
        names = [f"d{row}" for row in draw.sample(range(30), 6)]
        labelled = [LabelledPassage(name, "llm", utility_score=draw.random()) for name in names]
        num_positives = number % 4
        positives, negatives = tuple(labelled[:num_positives]), tuple(labelled[num_positives:])
        made.append(TrainingExample(f"q{number}", "a question", positives, negatives))
    return made


def write_tokens(directory: Path) -> TokenStore:
    """Texts of 1 to 9 tokens."""
    draw = random.Random(4)
    rows = [("query", f"q{number}") for number in range(20)] + [("passage", f"d{number}") for number in range(30)]
    table = [
        {"side": side, "id": name, "input_ids": [draw.randrange(50) for _ in range(draw.randint(1, 9))]}
        for side, name in rows
    ]
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table, schema=TOKENS), directory / "part-0.parquet")
    return TokenStore(directory)


def batches() -> dict[str, list[GlobalBatch]]:
    """Seven queries, two of them without a positive; two queries; one query with three passages; two batches of
    four and three that are accumulated; and seven queries with at most one positive."""
    several = SamplingConfig(group_size=4, max_positives=2)
    single = SamplingConfig(group_size=3, policy="random_one")
    (seven,) = _batches(examples(), several, 7)
    return {
        "seven": [seven],
        "two": _batches(examples(), several, 2)[:1],
        "one": _batches(examples()[1:2], single, 1),
        "accumulated": [GlobalBatch(0, seven.groups[:4]), GlobalBatch(0, seven.groups[4:])],
        "single": _batches(examples(), single, 7),
    }


def cases() -> list[tuple[str, str]]:
    """Batch and objective; InfoNCE takes one positive only."""
    return [case for case in product(batches(), LOSSES) if case[1] != "InfoNCE" or case[0] in ("one", "single")]


def _batches(rows: list[TrainingExample], sampling: SamplingConfig, size: int) -> list[GlobalBatch]:
    return Schedule(rows, sampling, batch_size=size, epochs=1, seed=8).batches(0)


def gradients(tokens: TokenStore) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Mean loss and gradients of every batch under every objective, with and without a gradient cache."""
    losses, found = {}, {}
    for use_cache, (batch_name, loss_name) in product((False, True), cases()):
        config = LOSSES[loss_name]
        tower, loss = MeanTower(), build_loss(config)
        step = GradientStep(
            tower,
            tokens,
            loss,
            with_utilities=config.learns_from_utility,
            micro_batch_tokens=20,
            use_cache=use_cache,
        )
        case = f"{batch_name}/{loss_name}/{'cached' if use_cache else 'full'}"
        losses[case] = step.run(batches()[batch_name]).mean_loss
        for name, parameter in (*tower.module.named_parameters(), *loss.named_parameters()):
            found[f"{case}/{name}"] = parameter.grad
    return losses, found


def train(tokens: TokenStore, checkpoints: Path, logger: ListLogger) -> MeanTower:
    """A tower trained by ``TRAIN``."""
    tower = MeanTower(dropout=0.3)
    usable = [example for example in examples() if example.positives]
    Training(tower, usable, tokens, TRAIN, seed=8, checkpoints=checkpoints, logger=logger).run()
    return tower


def run_world(work: Callable[..., None], world_size: int, directory: Path, *arguments: object) -> list[int | None]:
    """Exit codes of ``world_size`` processes that do ``work`` together in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    rendezvous = directory / "rendezvous"
    rendezvous.unlink(missing_ok=True)
    # Every process is forked from one that has imported torch and done nothing with it: quick, and safe. The first
    # step of an optimizer would import the second, the first table the third, in every process anew.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo", "pandas"])
    processes = [
        context.Process(target=_join, args=(rendezvous, rank, world_size, work, directory, *arguments))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    return [process.exitcode for process in processes]


def work_on_gradients(directory: Path) -> None:
    """Write what this process has for every batch and objective."""
    losses, found = gradients(TokenStore(directory.parent / "tokens"))
    write_json(directory / f"losses-{dist.get_rank()}.json", losses)
    save_file(found, directory / f"tensors-{dist.get_rank()}.safetensors")


def work_on_training(directory: Path, logger: ListLogger) -> None:
    """Train, and write the parameters; or die on the way."""
    tower = train(TokenStore(directory.parent / "tokens"), directory / "checkpoints", logger)
    parameters = {name: value.detach() for name, value in tower.module.named_parameters()}
    save_file(parameters, directory / f"tensors-{dist.get_rank()}.safetensors")


def _join(
    rendezvous: Path, rank: int, world_size: int, work: Callable[..., None], directory: Path, *arguments: object
) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    timeout = timedelta(seconds=60)
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size, timeout=timeout
    )
    work(directory, *arguments)
    dist.destroy_process_group()
