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
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from winnow import schema
from winnow.config import Config, InputPath, load_config
from winnow.corpora.copies import text_hash
from winnow.corpora.store import passages_of
from winnow.errors import ConfigError, DataError, WinnowError
from winnow.files import hash_file, replacing
from winnow.machine import trouble_of
from winnow.modeling.config import EncoderConfig
from winnow.modeling.tokenizing import TextTokenizer
from winnow.records import Passage, TrainingExample
from winnow.training.config import TrainConfig
from winnow.training.examples import read_examples, usable_examples
from winnow.training.gather import process_rank
from winnow.training.job import TrainingJob, train_encoder
from winnow.training.texts import named_passages, token_key, tokenised, training_texts


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
    except Exception as error:
        said = error if isinstance(error, WinnowError) else trouble_of(error)
        if said is None:
            raise
        print(f"winnow: {said}", file=sys.stderr)
        sys.exit(said.exit_code)


def run(config: JobConfig) -> None:
    """Train, in the group of processes that torchrun has described in the environment, if it has."""
    if config.train.stages or config.train.dev is not None:
        raise ConfigError("stages and dev questions are for `winnow train`; give this command one stage without `dev`")
    output = config.output.resolve()
    device = _device()
    if "WORLD_SIZE" in os.environ:
        # The first process tokenises while the others wait.
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=2))
    try:
        job = _job(config, output)
        summary = train_encoder(job, device=device)
        if process_rank() == 0:
            print(f"train: {summary}\ntrain: {job.output}", flush=True)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _job(config: JobConfig, output: Path) -> TrainingJob:
    examples = read_examples(config.examples)
    tokens = output / "tokens" / token_key(config.encoder, hash_file(config.examples), hash_file(config.passages))
    if process_rank() == 0:
        left_out = usable_examples(examples, config.train, seed=config.seed).left_out
        print(f"train: {len(examples):,} queries (left out: {left_out or 'none'})", flush=True)
        _tokenise(config, examples, tokens)
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


def _tokenise(config: JobConfig, examples: Sequence[TrainingExample], directory: Path) -> None:
    shard = directory / "part-0.parquet"
    if shard.exists():
        return
    withheld = {passage.passage_id for example in examples for passage in example.withheld}
    named = pc.field("passage_id").isin(pa.array(sorted(named_passages(examples) | withheld), pa.string()))
    passages = passages_of(pq.read_table(config.passages, columns=schema.PASSAGES.names, filters=named))
    _check_no_copies(passages, config.examples)
    tokenizer = TextTokenizer.load(config.encoder.locate(), config.encoder)
    with replacing(shard) as temporary:
        pq.write_table(tokenised(training_texts(examples, passages), tokenizer), temporary)


def _check_no_copies(passages: Sequence[Passage], path: Path) -> None:
    """Raises ``DataError`` if two of ``passages`` say the same: a query would have one as positive, one as negative."""
    first_of: dict[str, str] = {}
    names = [(passage.passage_id, first_of.setdefault(text_hash(passage), passage.passage_id)) for passage in passages]
    if copies := [(passage_id, first) for passage_id, first in names if passage_id != first]:
        passage_id, first = copies[0]
        raise DataError(
            f"{path} names {len(copies):,} copies, such as {passage_id!r} whose title and text are those of {first!r}: "
            f"one would be a negative where the other is a positive; name the same one in all examples"
        )


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


if __name__ == "__main__":
    main()
