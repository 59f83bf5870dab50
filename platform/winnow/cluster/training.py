"""Training on Ray: Ray Data tokenises once, Ray Train runs the loop on its workers.

Checkpoints are the loop's own, on shared storage: a worker group that lost a worker starts again from
them, and so does the same command after its driver was killed. Ray Train only watches and restarts.
"""

import os
import shutil
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from winnow.cluster.runtime import note_crowding, preflight
from winnow.errors import WinnowError
from winnow.machine import keeping_signals, trouble_of, waiting_policy
from winnow.modeling.config import EncoderConfig
from winnow.modeling.tokenizing import TextTokenizer
from winnow.progress import progress
from winnow.training.job import TrainingJob, train_encoder
from winnow.training.summary import TrainingSummary
from winnow.training.texts import tokenised

_BLOCK_ROWS = 8192
_MOST_TOKENIZERS = 16


def tokenise(texts: pa.Table, encoder: EncoderConfig, output: Path) -> Path:
    """``output`` with the token ids of ``texts`` (columns side, id, text) in shards; done once, whole or not at all."""
    if output.exists():
        return output
    building = output.with_name(f".building-{output.name}-{uuid.uuid4().hex[:8]}")
    blocks = [texts.slice(start, _BLOCK_ROWS) for start in range(0, texts.num_rows, _BLOCK_ROWS)]
    if len(blocks) == 1:
        # An actor takes ten times as long to start as it needs for one block.
        building.mkdir(parents=True)
        pq.write_table(_Tokenise(encoder)(texts), building / "0.parquet")
    else:
        _tokenise_on_ray(blocks, encoder, building)
    try:
        os.rename(building, output)
    except OSError:
        if not output.exists():
            raise
        # Another run was faster; its shards are the same.
        shutil.rmtree(building)
    return output


def _tokenise_on_ray(blocks: list[pa.Table], encoder: EncoderConfig, building: Path) -> None:
    shards = (
        ray.data.from_arrow(blocks)
        .map_batches(
            _Tokenise,
            fn_constructor_args=(encoder,),
            batch_format="pyarrow",
            batch_size=_BLOCK_ROWS,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(len(blocks), _MOST_TOKENIZERS)),
            num_cpus=1,
        )
        .iter_batches(batch_format="pyarrow", batch_size=None)
    )
    building.mkdir(parents=True)
    with progress(sum(block.num_rows for block in blocks), label="tokenise", unit="texts") as bar:
        # Written here, so that none can be missing: other machines may not share the folder.
        for number, shard in enumerate(shards):
            pq.write_table(shard, building / f"{number}.parquet")
            bar.advance(shard.num_rows)


def train_on_ray(job: TrainingJob) -> TrainingSummary:
    """The summary of a finished run; the encoder lies in ``job.output``. Raises what the loop raised.

    With a range of workers Ray starts as many as fit, goes on with fewer when a node is lost and with more when
    one joins, each time from the last checkpoint. The global batch is the same for any number.
    """
    bundle = {"CPU": job.config.threads_per_worker, "GPU": job.config.gpus_per_worker}
    preflight("training", bundle, count=job.config.fewest_workers)
    threads = job.config.threads_per_worker
    note_crowding("training", processes=job.config.fewest_workers, threads=threads, cpus=threads)
    scratch = job.output.with_name(".ray-train")
    trainer = _Trainer(
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
        with keeping_signals():
            outcome = trainer.fit().return_value
    except TrainingFailedError as error:
        raise WinnowError(
            f"training gave up after its workers failed {job.config.max_failures + 1} times, at last with "
            f"{str(error).strip()[-600:]!r}; the checkpoints are kept: run the same command to go on, or raise "
            f"train.max_failures"
        ) from error
    shutil.rmtree(scratch, ignore_errors=True)
    if isinstance(outcome, WinnowError):
        raise outcome
    return outcome


class _Trainer(TorchTrainer):
    def _register_sigint_handler(self, controller: object) -> None:
        """Leaves Ctrl-C alone: Ray's own handler would end the process with exit code 0, long after training, too."""


class _Tokenise:
    def __init__(self, encoder: EncoderConfig) -> None:
        self._tokenizer = TextTokenizer.load(encoder.locate(), encoder)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return tokenised(batch, self._tokenizer)


def _work(settings: Mapping[str, TrainingJob]) -> TrainingSummary | WinnowError:
    job = settings["job"]
    try:
        # To a worker without a GPU of its own, Ray would name the first of the node.
        device = get_device() if job.config.gpus_per_worker else torch.device("cpu")
        return train_encoder(job, device=device)
    except WinnowError as error:
        # Returned, not raised: Ray would start the workers again, and they would fail the same way.
        return error
    except Exception as error:
        # So would those for which the disk is full.
        if (trouble := trouble_of(error)) is None:
            raise
        return trouble


def _worker_environment() -> dict[str, str]:
    """Threads wait as here, on a cluster too. On loopback gloo stays there; it would listen on the host's address."""
    if ray.util.get_node_ip_address() != "127.0.0.1":
        return waiting_policy()
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    return {"GLOO_SOCKET_IFNAME": loopback} | waiting_policy()
