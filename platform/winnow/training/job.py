"""One training run as a record, and what every process of it does.

Ray Train runs it on its workers, ``python -m winnow.training`` alone or under torchrun.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from winnow.evaluation.measures import Qrels
from winnow.files import hash_file, read_json, write_json
from winnow.modeling.adapting import adapt
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder, build_encoder
from winnow.training.config import TrainConfig
from winnow.training.dev import DevSet
from winnow.training.examples import read_examples, usable_examples
from winnow.training.gather import on_every_worker, on_first_worker
from winnow.training.loop import Training
from winnow.training.protocol import RunLogger
from winnow.training.summary import TrainingSummary
from winnow.training.tokens import TokenStore

EVIDENCE = ".alarm"
"""Beside the encoder: batches that a run stopped at. Hidden, because it is no part of the result."""


@dataclass(frozen=True)
class TrainingJob:
    """All that a worker has to know. Paths are absolute and on storage that every worker sees."""

    encoder: EncoderConfig
    examples: Path
    tokens: Path
    """A folder named by what its content depends on; a run does not go on from checkpoints with other tokens."""
    config: TrainConfig
    seed: int
    checkpoints: str
    """A folder or a URL."""
    output: Path
    """Where the trained encoder goes."""
    logger: RunLogger
    dev: Path | None = None
    """Dev questions, written by ``write_dev``."""


def train_encoder(job: TrainingJob, *, device: torch.device) -> TrainingSummary:
    """What one of the job's processes does; the first one saves the encoder. Raises ``WinnowError``."""
    torch.set_num_threads(job.config.threads_per_worker)
    encoder, training = on_every_worker(lambda: _prepare(job, device), device)
    summary = training.run()
    on_first_worker(lambda: _publish(encoder, job.output), device)
    return summary


def _prepare(job: TrainingJob, device: torch.device) -> tuple[DenseEncoder, Training]:
    encoder, config = build_encoder(job.encoder, device=device), job.config
    # The folder of the tokens is named by all that they depend on, passages and model files included.
    inputs = {"encoder": encoder.fingerprint, "examples": hash_file(job.examples), "tokens": job.tokens.name}
    adapt(
        encoder,
        projection=config.projection,
        towers=config.towers,
        lora=config.lora,
        gradient_checkpointing=config.gradient_checkpointing,
        seed=job.seed,
    )
    training = Training(
        encoder,
        usable_examples(read_examples(job.examples), config, seed=job.seed).examples,
        TokenStore(job.tokens),
        config,
        seed=job.seed,
        checkpoints=job.checkpoints,
        logger=job.logger,
        evidence=job.output.parent / EVIDENCE,
        dev=None if job.dev is None else _read_dev(job.dev),
        inputs=inputs,
    )
    return encoder, training


def _publish(encoder: DenseEncoder, output: Path) -> None:
    building = output.with_name(f".building-{output.name}")
    shutil.rmtree(building, ignore_errors=True)
    encoder.save(building)
    # A run that was killed after its last step ends here again, with the same encoder.
    shutil.rmtree(output, ignore_errors=True)
    building.rename(output)


def write_dev(
    path: Path, queries: Sequence[str], passages: Sequence[str], qrels: Qrels, *, relevant_from: int, tokens: Path
) -> Path:
    """``path``, a JSON file of dev questions, by id; their texts are tokenised in ``tokens``."""
    judged = {query_id: dict(qrels[query_id]) for query_id in queries}
    fields = {"queries": queries, "passages": passages, "qrels": judged, "relevant_from": relevant_from}
    return write_json(path, {**fields, "tokens": str(tokens)})


def _read_dev(path: Path) -> DevSet:
    fields = read_json(path)
    return DevSet(
        queries=tuple(fields["queries"]),
        passages=tuple(fields["passages"]),
        qrels=fields["qrels"],
        tokens=TokenStore(Path(fields["tokens"])),
        relevant_from=fields["relevant_from"],
    )
