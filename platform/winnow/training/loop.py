"""The training loop. Runs alone or as one of several torch.distributed processes; knows no Ray.

A step depends on (seed, step) and the parameters alone, so a run that goes on from a checkpoint
ends with the same parameters, to the bit on a CPU in fp32, as one that was never stopped.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from winnow.errors import ConfigError
from winnow.progress import Progress, progress
from winnow.records import TrainingExample
from winnow.seeding import derive_seed
from winnow.training.batches import GlobalBatch, Schedule
from winnow.training.checkpoint import Totals, latest_step, load_checkpoint, save_checkpoint
from winnow.training.config import TrainConfig
from winnow.training.gather import process_rank, same_on_all_workers
from winnow.training.gradients import GradientStep, StepSums
from winnow.training.protocol import RunLogger, TrainableEncoder
from winnow.training.tokens import TokenStore


@dataclass(frozen=True)
class TrainingSummary:
    """What came of a run. Holds no times, so equal runs have equal summaries."""

    objective: str
    num_steps: int
    num_queries: int
    """Rows of all steps, every epoch counted."""
    num_skipped: int
    """Of those, rows that had no positive (or no two utilities) in their group."""
    num_tokens: int
    padding_share: float
    epoch_losses: list[float]
    """Mean loss of each epoch's valid queries."""


class Training:
    """A run over ``examples``, from its last checkpoint in ``checkpoints`` if there is one."""

    def __init__(
        self,
        encoder: TrainableEncoder,
        examples: Sequence[TrainingExample],
        tokens: TokenStore,
        config: TrainConfig,
        *,
        seed: int,
        checkpoints: Path,
        logger: RunLogger,
    ) -> None:
        self._module = encoder.module
        self._config = config
        self._seed = seed
        self._checkpoints = checkpoints
        self._logger = logger
        self._schedule = Schedule(
            examples, config.sampling, batch_size=config.batch_size, epochs=config.epochs, seed=seed
        )
        is_bf16 = config.precision == "bf16"
        self._gradient = GradientStep(
            encoder, tokens, config.loss, micro_batch_tokens=config.micro_batch_tokens, is_bf16=is_bf16
        )
        self._optimizer = AdamW(_parameter_groups(self._module, config.weight_decay), lr=config.learning_rate)
        self._totals = Totals()

    def run(self) -> TrainingSummary:
        """Take the steps that are left. Raises ``ConfigError`` if the loss stops being a number."""
        self._module.train(self._config.use_dropout)
        first, last = self._resume(), self._schedule.num_steps
        with _bar(last - first) as bar:
            for step in range(first, last):
                sums = self._step(step)
                if bar is not None:
                    bar.note(loss=f"{sums.mean_loss:.4f}")
                    bar.advance()
                if (step + 1) % self._config.checkpoint_every_steps == 0 or step + 1 == last:
                    self._save(step + 1)
        self._module.eval()
        return self._summary()

    def _resume(self) -> int:
        device = next(self._module.parameters()).device
        # Rank 0 wrote the checkpoints; another worker may see a shared folder a moment later.
        step = same_on_all_workers(latest_step(self._checkpoints), device)
        if step > 0:
            self._totals = load_checkpoint(self._checkpoints, step, self._module, self._optimizer)
            if process_rank() == 0:
                print(f"train: going on after step {step} of {self._schedule.num_steps}", flush=True)
        return step

    def _save(self, step: int) -> None:
        if process_rank() == 0:
            save_checkpoint(self._checkpoints, step, self._module, self._optimizer, self._totals)

    def _step(self, step: int) -> StepSums:
        started = time.perf_counter()
        batch = self._schedule.batch(step)
        learning_rate = learning_rate_at(step, self._schedule.num_steps, self._config)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        with self._seeded_dropout(step):
            sums = self._gradient.run(batch)
        self._check_finite(sums.loss, "loss", step)
        grad_norm = clip_grad_norm_(self._module.parameters(), self._config.max_grad_norm).item()
        self._check_finite(grad_norm, "gradient norm", step)
        self._optimizer.step()
        self._count(batch, sums)
        self._log(step, sums, learning_rate, grad_norm, seconds=time.perf_counter() - started)
        return sums

    def _seeded_dropout(self, step: int) -> AbstractContextManager[None]:
        return (
            _seeded(derive_seed(self._seed, "dropout", step, process_rank()))
            if self._module.training
            else nullcontext()
        )

    def _check_finite(self, value: float, name: str, step: int) -> None:
        # Every worker has the same sums, so all of them stop here together.
        if not math.isfinite(value):
            raise ConfigError(
                f"the {name} became {value} at step {step + 1} of {self._schedule.num_steps}; lower "
                f"train.learning_rate ({self._config.learning_rate}), raise train.loss.temperature "
                f"({self._config.loss.temperature}), or train in fp32 if precision is bf16"
            )

    def _count(self, batch: GlobalBatch, sums: StepSums) -> None:
        totals = self._totals
        if len(totals.epoch_losses) == batch.epoch:
            totals.epoch_losses.append(0.0)
            totals.epoch_valid.append(0)
        totals.epoch_losses[batch.epoch] += sums.loss
        totals.epoch_valid[batch.epoch] += sums.num_valid
        totals.num_queries += len(batch.groups)
        totals.num_skipped += len(batch.groups) - sums.num_valid
        totals.num_tokens += sums.num_tokens
        totals.num_padding += sums.num_padding

    def _log(self, step: int, sums: StepSums, learning_rate: float, grad_norm: float, *, seconds: float) -> None:
        if process_rank() != 0:
            return
        self._logger.metrics(
            {
                "train.loss": sums.mean_loss,
                "train.learning_rate": learning_rate,
                "train.grad_norm": grad_norm,
                "train.tokens_per_s": sums.num_tokens / seconds,
                "train.padding_share": sums.num_padding / (sums.num_tokens + sums.num_padding),
            },
            step=step + 1,
        )

    def _summary(self) -> TrainingSummary:
        totals = self._totals
        return TrainingSummary(
            objective=self._config.objective_name,
            num_steps=self._schedule.num_steps,
            num_queries=totals.num_queries,
            num_skipped=totals.num_skipped,
            num_tokens=totals.num_tokens,
            padding_share=totals.num_padding / (totals.num_tokens + totals.num_padding),
            epoch_losses=[
                loss / max(count, 1) for loss, count in zip(totals.epoch_losses, totals.epoch_valid, strict=True)
            ],
        )


def learning_rate_at(step: int, num_steps: int, config: TrainConfig) -> float:
    """The rate of ``step`` (from 0): up to the peak over the warm-up, then linearly towards 0."""
    num_warmup = math.ceil(config.warmup_share * num_steps)
    if step < num_warmup:
        return config.learning_rate * (step + 1) / num_warmup
    return config.learning_rate * (num_steps - step) / (num_steps - num_warmup)


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _bar(num_steps: int) -> AbstractContextManager[Progress | None]:
    return progress(num_steps, label="train", unit="steps") if process_rank() == 0 else nullcontext()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's own generator, which dropout draws from, seeded for the block and put back after it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
