"""The training loop. Runs alone or as one of several torch.distributed processes; knows no Ray.

A step depends on (seed, step) and the parameters alone, so a run that goes on from a checkpoint
ends with the same parameters, to the bit on a CPU in fp32, as one that was never stopped.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType

from winnow.errors import ConfigError
from winnow.losses.module import build_loss
from winnow.progress import Progress, progress
from winnow.records import TrainingExample
from winnow.seeding import derive_seed, seeded_torch
from winnow.training.alarm import CollapseAlarm, StepHealth, save_batch
from winnow.training.batches import GlobalBatch, Schedule
from winnow.training.checkpoint import CheckpointStore, Totals, TrainingState
from winnow.training.config import TrainConfig
from winnow.training.dev import DevEvaluation, DevSet
from winnow.training.gather import on_every_worker, on_first_worker, process_rank, same_on_all_workers
from winnow.training.gradients import GradientStep, StepSums
from winnow.training.optimizing import Optimisation, StepOutcome, learning_rate_at
from winnow.training.protocol import RunLogger, TrainableEncoder
from winnow.training.stopping import is_best, is_measured, should_stop
from winnow.training.summary import TrainingSummary, summarise
from winnow.training.tokens import TokenStore

_SEEN_WITHIN_S = 60
"""A network disk may show another machine's files that much later."""
_LEAST_LOSS_SCALE = 1.0


class Training:
    """A run over ``examples``, from its last checkpoint under ``checkpoints`` (a path or a URL) if there is one.

    ``evidence`` is where the batch goes that was being trained on when the run collapsed. ``inputs`` are hashes of
    what is trained on what: a checkpoint of others is refused.
    """

    def __init__(
        self,
        encoder: TrainableEncoder,
        examples: Sequence[TrainingExample],
        tokens: TokenStore,
        config: TrainConfig,
        *,
        seed: int,
        checkpoints: str | Path,
        logger: RunLogger,
        evidence: Path | None = None,
        dev: DevSet | None = None,
        inputs: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._module = encoder.module
        self._dimension = encoder.dimension
        self._device = next(self._module.parameters()).device
        self._tokens = tokens
        self._config = config
        self._seed = seed
        self._logger = logger
        self._evidence = evidence
        self._schedule = Schedule(
            examples,
            config.sampling,
            batch_size=config.batch_size,
            accumulate_batches=config.accumulate_batches,
            epochs=config.epochs,
            seed=seed,
        )
        self._loss = build_loss(config.loss).to(self._device)
        self._gradient = GradientStep(
            encoder,
            tokens,
            self._loss,
            with_utilities=config.loss.learns_from_utility,
            micro_batch_tokens=config.micro_batch_tokens,
            precision=config.precision,
            use_cache=config.gradient_cache,
        )
        self._optimisation = Optimisation(self._module, self._loss, config, num_steps=self._schedule.num_steps)
        self._alarm = CollapseAlarm(config.alarm)
        self._store = CheckpointStore(str(checkpoints), {"train": config.science(), "seed": seed, **inputs})
        self._state = TrainingState(self._optimisation.parameters, self._optimisation.optimizer, Totals(), {})
        self._dev = None
        if config.dev is not None and dev is not None:
            self._dev = DevEvaluation(
                encoder, dev, config.dev, micro_batch_tokens=config.micro_batch_tokens, precision=config.precision
            )

    def run(self) -> TrainingSummary:
        """Take the steps that are left. Raises ``ConfigError`` when the run has collapsed."""
        self._module.train(self._config.use_dropout)
        first, last = self._resume(), self._schedule.num_steps
        with _bar(last - first) as bar:
            for step in range(first, last):
                if should_stop(self._state.totals, self._config.dev):
                    break
                self._take(step, bar)
        self._module.eval()
        return self._finish()

    def _take(self, step: int, bar: Progress | None) -> None:
        sums = self._step(step)
        if bar is not None:
            bar.note(loss=f"{sums.mean_loss:.4f}")
            bar.advance()
        if self._dev is not None and is_measured(
            step + 1,
            self._config.dev,
            steps_per_epoch=self._schedule.steps_per_epoch,
            num_steps=self._schedule.num_steps,
        ):
            self._measure(step + 1)
        if (step + 1) % self._config.checkpoint_every_steps == 0 or step + 1 == self._schedule.num_steps:
            self._save(step + 1)

    def _resume(self) -> int:
        # Rank 0 wrote the checkpoints; another worker may see a shared folder a moment later.
        step = same_on_all_workers(self._store.latest(), self._device)
        if step > 0:
            on_every_worker(lambda: self._load(step), self._device)
            if process_rank() == 0:
                print(f"train: going on after step {step} of {self._schedule.num_steps}", flush=True)
        return step

    def _load(self, step: int) -> None:
        deadline = time.monotonic() + _SEEN_WITHIN_S
        while self._store.latest() < step and time.monotonic() < deadline:
            time.sleep(1)
        self._store.load(step, self._state)
        self._optimisation.load_scaler(self._state.scaler)
        self._alarm.widest_spread = self._state.totals.widest_spread

    def _save(self, step: int) -> None:
        self._state.scaler = self._optimisation.scaler_state()
        on_first_worker(lambda: self._store.save(step, self._state), self._device)

    def _step(self, step: int) -> StepSums:
        started = time.perf_counter()
        batches = self._schedule.batches(step)
        self._optimisation.optimizer.zero_grad(set_to_none=True)
        with self._seeded_dropout(step):
            sums = self._gradient.run(batches, loss_scale=self._optimisation.loss_scale)
        outcome = self._optimise(step, sums)
        self._check(step, batches[sums.num_batches - 1], sums, outcome)
        self._count(batches, sums)
        self._log(step, sums, outcome, seconds=time.perf_counter() - started)
        return sums

    def _optimise(self, step: int, sums: StepSums) -> StepOutcome:
        if not math.isfinite(sums.loss):
            return StepOutcome(math.nan, math.nan)
        if sums.num_valid == 0:
            # Momentum and weight decay would change parameters that no query speaks for.
            return StepOutcome(learning_rate_at(step, self._schedule.num_steps, self._config), 0.0)
        return self._optimisation.step(step)

    def _seeded_dropout(self, step: int) -> AbstractContextManager[None]:
        if not self._module.training:
            return nullcontext()
        return seeded_torch(derive_seed(self._seed, "dropout", step, process_rank()), self._device)

    def _check(self, step: int, batch: GlobalBatch, sums: StepSums, outcome: StepOutcome) -> None:
        # Every worker has the same sums, so all of them stop here together.
        health = StepHealth(
            loss=sums.mean_loss,
            grad_norm=outcome.grad_norm,
            score_spread=sums.score_spread / max(sums.num_scored, 1),
            effective_rank=sums.effective_rank,
            num_passages=sums.num_passages,
            dimension=self._dimension,
            learning_rate=outcome.learning_rate,
        )
        diagnosis = self._alarm.check(step + 1, health)
        self._state.totals.widest_spread = self._alarm.widest_spread
        if outcome.is_skipped and self._optimisation.loss_scale < _LEAST_LOSS_SCALE:
            diagnosis = "gradients are not finite in fp16, however far the loss is scaled down; train in bf16 or fp32"
        if diagnosis is not None:
            kept = self._keep_batch(step, batch, health)
            raise ConfigError(f"step {step + 1} of {self._schedule.num_steps}: {diagnosis}{kept}")

    def _keep_batch(self, step: int, batch: GlobalBatch, health: StepHealth) -> str:
        if self._evidence is None or process_rank() != 0:
            return ""
        try:
            return f"; the batch is in {save_batch(self._evidence, step + 1, batch, self._tokens, health)}"
        except OSError as error:
            return f"; the batch could not be saved ({error})"

    def _measure(self, step: int) -> None:
        measures = self._dev.measure()
        better = is_best(self._state.totals, step, measures, self._config.dev)
        if better and self._config.dev.patience is not None:
            on_first_worker(lambda: self._store.save_best(self._state), self._device)
        if process_rank() == 0:
            self._logger.metrics({f"dev.{name}": value for name, value in measures.items()}, step=step)

    def _count(self, batches: Sequence[GlobalBatch], sums: StepSums) -> None:
        totals, epoch = self._state.totals, batches[0].epoch
        if len(totals.epoch_losses) == epoch:
            totals.epoch_losses.append(0.0)
            totals.epoch_valid.append(0)
        num_queries = sum(len(batch.groups) for batch in batches)
        totals.epoch_losses[epoch] += sums.loss
        totals.epoch_valid[epoch] += sums.num_valid
        totals.num_steps += 1
        totals.num_queries += num_queries
        totals.num_skipped += num_queries - sums.num_valid
        totals.num_tokens += sums.num_tokens
        totals.num_padding += sums.num_padding

    def _log(self, step: int, sums: StepSums, outcome: StepOutcome, *, seconds: float) -> None:
        if process_rank() != 0:
            return
        values = {
            "loss": sums.mean_loss,
            "learning_rate": outcome.learning_rate,
            "grad_norm": outcome.grad_norm,
            "temperature": self._loss.temperature,
            "loss_scale": self._optimisation.loss_scale,
            "skipped_step": outcome.is_skipped,
            "score_spread": sums.score_spread / max(sums.num_scored, 1),
            "effective_rank": sums.effective_rank,
            "tokens_per_s": sums.num_tokens / seconds,
            "padding_share": sums.num_padding / (sums.num_tokens + sums.num_padding),
        }
        self._logger.metrics({f"train.{name}": value for name, value in values.items()}, step=step + 1)

    def _finish(self) -> TrainingSummary:
        totals = self._state.totals
        if self._config.dev is not None and self._config.dev.patience is not None and totals.best_step:
            self._store.load_best(self._state)
        return summarise(self._config, self._schedule, totals, temperature=self._loss.temperature)


def _bar(num_steps: int) -> AbstractContextManager[Progress | None]:
    return progress(num_steps, label="train", unit="steps") if process_rank() == 0 else nullcontext()
