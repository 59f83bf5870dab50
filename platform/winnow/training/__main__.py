"""Train an encoder without Ray: in one process, or in several under torchrun.

python -m winnow.training JOB.yaml
torchrun --standalone --nproc-per-node 2 -m winnow.training JOB.yaml

JOB.yaml names an encoder, ``training_examples`` and ``passages`` (the Parquet datasets), the ``train`` section of a
run's configuration, and a folder for the result: ``encoder/``, checkpoints to go on from, ``metrics.jsonl``.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from winnow import schema
from winnow.config import Config, InputPath, load_config
from winnow.corpora.store import passages_of
from winnow.errors import ConfigError, WinnowError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.tokenizing import TextTokenizer
from winnow.models import locate_model
from winnow.training.config import TrainConfig
from winnow.training.examples import read_examples
from winnow.training.gather import process_rank
from winnow.training.job import TrainingJob, train_encoder
from winnow.training.texts import tokenised, training_texts


class JobConfig(Config):
    """A training run without Ray. The number of processes is torchrun's affair."""

    encoder: EncoderConfig
    """The encoder to start from."""

    examples: InputPath
    """A ``training_examples`` dataset."""

    passages: InputPath
    """A ``passages`` dataset with every passage that the examples name."""

    train: TrainConfig
    """Objective, sampling, optimisation; one stage."""

    seed: int = 13
    """All randomness is derived from this."""

    output: Path
    """Folder for the result. The same command goes on from the checkpoints in it."""


class JsonLines:
    """Appends what is logged to a file, a line per step."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def main() -> None:
    """Run the job in the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path)
    try:
        run(load_config(JobConfig, parser.parse_args().job))
    except WinnowError as error:
        print(f"winnow: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def run(config: JobConfig) -> None:
    """Train, in the group of processes that torchrun has described in the environment, if it has."""
    if config.train.stages:
        raise ConfigError("stages are chained by `winnow train`; give this command the settings of one stage")
    output = config.output.resolve()
    device = _device()
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        job = _job(config, output)
        summary = train_encoder(job, device=device)
        if process_rank() == 0:
            print(f"train: {summary}\ntrain: {job.output}", flush=True)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _job(config: JobConfig, output: Path) -> TrainingJob:
    tokens = output / "tokens"
    if process_rank() == 0:
        output.mkdir(parents=True, exist_ok=True)
        _tokenise(config, tokens)
    if dist.is_initialized():
        dist.barrier()
    return TrainingJob(
        encoder=config.encoder,
        examples=config.examples,
        tokens=tokens,
        config=config.train,
        seed=config.seed,
        checkpoints=config.train.storage or str(output / "checkpoints"),
        output=output / "encoder",
        logger=JsonLines(output / "metrics.jsonl"),
    )


def _tokenise(config: JobConfig, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    passages = passages_of(schema.read_dataset(config.passages, schema.PASSAGES))
    texts = training_texts(read_examples(config.examples), passages)
    tokenizer = TextTokenizer.load(locate_model(config.encoder.model), config.encoder)
    pq.write_table(tokenised(texts, tokenizer), directory / "part-0.parquet")


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


if __name__ == "__main__":
    main()
