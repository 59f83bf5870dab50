"""Training on Ray: Ray Data tokenises once, Ray Train runs the loop on its workers.

Checkpoints are the loop's own, on shared storage: a worker group that lost a worker starts again from
them, and so does the same command after its driver was killed. Ray Train only watches and restarts.
"""

import os
import shutil
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from winnow.cluster.runtime import preflight
from winnow.errors import WinnowError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import build_encoder
from winnow.modeling.tokenizing import TextTokenizer
from winnow.models import locate_model
from winnow.training.config import TrainConfig
from winnow.training.examples import read_examples, usable_examples
from winnow.training.gather import process_rank
from winnow.training.loop import Training, TrainingSummary
from winnow.training.protocol import RunLogger
from winnow.training.tokens import TOKENS, TokenStore

_BLOCK_ROWS = 8192
_MOST_TOKENIZERS = 16


@dataclass(frozen=True)
class TrainingJob:
    """All that a worker has to know. Paths are absolute and on storage that every worker sees."""

    encoder: EncoderConfig
    examples: Path
    tokens: Path
    config: TrainConfig
    seed: int
    checkpoints: Path
    output: Path
    """Where the trained encoder goes."""
    logger: RunLogger


def tokenise(texts: pa.Table, encoder: EncoderConfig, output: Path) -> Path:
    """``output`` with the token ids of ``texts`` (columns side, id, text) in shards; done once, whole or not at all."""
    if output.exists():
        return output
    building = output.with_name(f".building-{output.name}-{uuid.uuid4().hex[:8]}")
    blocks = [texts.slice(start, _BLOCK_ROWS) for start in range(0, texts.num_rows, _BLOCK_ROWS)]
    ray.data.from_arrow(blocks).map_batches(
        _Tokenise,
        fn_constructor_args=(encoder,),
        batch_format="pyarrow",
        batch_size=_BLOCK_ROWS,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(len(blocks), _MOST_TOKENIZERS)),
        num_cpus=1,
    ).write_parquet(str(building))
    # Another run may have been faster; its shards are the same.
    if output.exists():
        shutil.rmtree(building)
    else:
        os.rename(building, output)
    return output


def train_on_ray(job: TrainingJob) -> TrainingSummary:
    """The summary of a finished run; the encoder lies in ``job.output``. Raises what the loop raised."""
    bundle = {"CPU": job.config.threads_per_worker, "GPU": job.config.gpus_per_worker}
    preflight("training", bundle, count=job.config.num_workers)
    scratch = job.checkpoints.with_name(".ray-train")
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend=None if job.config.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.config.num_workers,
            use_gpu=job.config.gpus_per_worker > 0,
            resources_per_worker={name: amount for name, amount in bundle.items() if amount},
        ),
        run_config=RunConfig(
            # A fresh name each time: what a killed driver left behind is in our checkpoints, not in Ray's.
            name=f"train-{uuid.uuid4().hex[:8]}",
            storage_path=str(scratch),
            failure_config=FailureConfig(max_failures=job.config.max_failures),
            worker_runtime_env={"env_vars": _worker_environment()},
        ),
    )
    try:
        outcome = trainer.fit().return_value
    except TrainingFailedError as error:
        raise WinnowError(
            f"training gave up after losing its workers {job.config.max_failures + 1} times ({str(error)[:300]!r}); "
            f"the checkpoints are kept: run the same command to go on, or raise train.max_failures"
        ) from error
    shutil.rmtree(scratch, ignore_errors=True)
    if isinstance(outcome, WinnowError):
        raise outcome
    return outcome


class _Tokenise:
    def __init__(self, encoder: EncoderConfig) -> None:
        self._tokenizer = TextTokenizer.load(locate_model(encoder.model), encoder)

    def __call__(self, batch: pa.Table) -> pa.Table:
        sides = batch["side"].to_numpy()
        texts = np.array(batch["text"].to_pylist(), dtype=object)
        rows: list[list[int]] = [[]] * len(texts)
        for side in ("query", "passage"):
            positions = np.flatnonzero(sides == side)
            for position, ids in zip(positions, self._tokenizer.tokenize(texts[positions], side=side), strict=True):
                rows[position] = ids
        return pa.table([batch["side"], batch["id"], rows], schema=TOKENS)


def _work(settings: Mapping[str, TrainingJob]) -> TrainingSummary | WinnowError:
    job = settings["job"]
    torch.set_num_threads(job.config.threads_per_worker)
    try:
        return _train(job)
    except WinnowError as error:
        # Returned, not raised: Ray would start the workers again, and they would fail the same way.
        return error


def _train(job: TrainingJob) -> TrainingSummary:
    encoder = build_encoder(job.encoder, device=get_device())
    usable = usable_examples(read_examples(job.examples), job.config.loss)
    training = Training(
        encoder,
        usable.examples,
        TokenStore(job.tokens),
        job.config,
        seed=job.seed,
        checkpoints=job.checkpoints,
        logger=job.logger,
    )
    summary = training.run()
    if process_rank() == 0:
        encoder.save(job.output)
    return summary


def _worker_environment() -> dict[str, str]:
    """On a Ray that lives on loopback, gloo has to stay there too; it would listen on the host's address."""
    if ray.util.get_node_ip_address() != "127.0.0.1":
        return {}
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    return {"GLOO_SOCKET_IFNAME": loopback}
