"""The same training twice: Winnow's loop and sentence-transformers' trainer, on equal batches with equal settings.

Equal: encoder, examples of every batch and their order, InfoNCE over all passages of the batch (sentence-transformers
calls it MultipleNegativesRankingLoss), temperature, AdamW with its weight decay, the learning rate's line to 0,
clipping, lengths, precision, no dropout. Left to each: padding, packing, the order within a batch, when to tokenise,
and which implementation of AdamW. Not timed: loading, tokenising ahead (its seconds are given beside), the first steps.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from synthetic_training import Problem, write_tokens

from winnow.config import build_config
from winnow.modeling.encoder import DenseEncoder
from winnow.training.batches import GlobalBatch, Schedule
from winnow.training.config import TrainConfig
from winnow.training.loop import Training

SEED = 13


@dataclass(frozen=True)
class Recipe:
    """What both are given."""

    batch_size: int
    num_negatives: int
    precision: str = "fp32"
    device: str = "cpu"
    temperature: float = 0.05
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0

    def config(self, **more: Any) -> TrainConfig:
        """The recipe as a configuration of Winnow; ``more`` are settings that change only speed."""
        settings = {
            "loss": {"objective": "InfoNCE", "temperature": self.temperature},
            "sampling": {"policy": "first", "group_size": 1 + self.num_negatives},
            "epochs": 1,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "warmup_share": 0,
            "weight_decay": self.weight_decay,
            "max_grad_norm": self.max_grad_norm,
            "precision": self.precision,
            "checkpoint_every_steps": 1_000_000,
        }
        return build_config(TrainConfig, settings | more)


def planned_batches(problem: Problem, recipe: Recipe, steps: int) -> list[GlobalBatch]:
    """The batches that ``steps`` steps train on, in order."""
    config = recipe.config()
    examples = problem.examples[: steps * recipe.batch_size]
    schedule = Schedule(examples, config.sampling, batch_size=recipe.batch_size, epochs=1, seed=SEED)
    assert schedule.num_steps == steps, f"{len(examples)} examples make {schedule.num_steps} steps, not {steps}"
    return [batch for step in range(steps) for batch in schedule.batches(step)]


def train_with_winnow(
    directory: Path,
    problem: Problem,
    recipe: Recipe,
    *,
    steps: int,
    untimed: int,
    profiler: Any = None,
    **knobs: Any,
) -> dict[str, Any]:
    """Seconds, losses and padding of a run of the loop; a ``profiler`` runs over the timed steps."""
    encoder = DenseEncoder.load(directory, device=recipe.device)
    examples = problem.examples[: steps * recipe.batch_size]
    watch = _Watch(untimed, steps, profiler)
    with tempfile.TemporaryDirectory(prefix="winnow-training-") as name:
        started = time.perf_counter()
        tokens = write_tokens(Problem(examples, problem.passages), encoder.tokenize, Path(name) / "tokens")
        tokenising = time.perf_counter() - started
        config = recipe.config(**knobs)
        training = Training(
            encoder, examples, tokens, config, seed=SEED, checkpoints=str(Path(name) / "checkpoints"), logger=watch
        )
        summary = training.run()
    timed = {**watch.result(), "tokenising": tokenising * (steps - untimed) / steps}
    return timed | {"losses": watch.losses, "padding": summary.padding_share}


class _Watch:
    """Times the steps after the first ``untimed`` ones; Winnow's loop logs to it."""

    def __init__(self, untimed: int, steps: int, profiler: Any = None) -> None:
        self._ends = untimed, steps
        self._profiler = profiler
        self._marks: list[tuple[float, float]] = []
        self.losses: list[float] = []

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        if "train.loss" in values:
            self.losses.append(values["train.loss"])
            self.tick(step)

    def tick(self, step: int) -> None:
        """Called at the end of ``step``, counted from 1."""
        if step not in self._ends:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if self._profiler is not None and not self._marks:
            self._profiler.start()
        self._marks.append((time.perf_counter(), time.process_time()))
        if self._profiler is not None and len(self._marks) == 2:
            self._profiler.stop()

    def result(self) -> dict[str, float]:
        (started, cpu_started), (ended, cpu_ended) = self._marks
        return {"seconds": ended - started, "cpu_seconds": cpu_ended - cpu_started}


def train_with_sentence_transformers(
    directory: Path,
    problem: Problem,
    recipe: Recipe,
    *,
    steps: int,
    untimed: int,
    columns: str,
    loaders: int = 0,
) -> dict[str, Any]:
    """Seconds, losses and padding of a run of its trainer.

    ``columns``: it encodes a batch's positives and negatives in one call padded to the longest of all (``merged``, its
    default), or each column in a call of its own (``apart``). ``loaders``: processes that tokenise ahead.
    """
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.base.losses.merged_forward import column_merging_disabled

    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = SentenceTransformer(
        str(directory), device=recipe.device, config_kwargs=no_dropout, model_kwargs={"dtype": torch.float32}
    )
    watch, losses, padding = _Watch(untimed, steps), [], _PaddingCount()
    model.register_forward_pre_hook(padding)
    with tempfile.TemporaryDirectory(prefix="winnow-training-") as name:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=_arguments(name, recipe, loaders),
            train_dataset=_columns(problem, planned_batches(problem, recipe, steps)),
            loss=_recorded_loss(model, recipe, losses),
            callbacks=[_ticking(watch)],
        )
        with column_merging_disabled() if columns == "apart" else nullcontext():
            trainer.train()
    return watch.result() | {"tokenising": 0.0, "losses": [loss.item() for loss in losses], "padding": padding.share}


class _PaddingCount:
    """Counts what goes into a model."""

    def __init__(self) -> None:
        self._num_real: list[torch.Tensor] = []
        self._num_all = 0

    def __call__(self, module: torch.nn.Module, inputs: tuple[Mapping[str, torch.Tensor], ...]) -> None:
        mask_NL = inputs[0]["attention_mask"]
        self._num_real.append(mask_NL.sum())
        self._num_all += mask_NL.numel()

    @property
    def share(self) -> float:
        return 1 - torch.stack(self._num_real).sum().item() / self._num_all


def _arguments(output: str, recipe: Recipe, loaders: int) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments

    return SentenceTransformerTrainingArguments(
        output_dir=output,
        num_train_epochs=1,
        per_device_train_batch_size=recipe.batch_size,
        batch_sampler=_in_order,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bf16",
        use_cpu=recipe.device == "cpu",
        dataloader_num_workers=loaders,
        dataloader_pin_memory=recipe.device != "cpu",
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _in_order(dataset: Sequence[Any], *, batch_size: int, drop_last: bool, **_: Any) -> Any:
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler

    return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)


def _columns(problem: Problem, batches: Sequence[GlobalBatch]) -> Any:
    from datasets import Dataset

    texts = {example.query_id: example.query for example in problem.examples}
    return Dataset.from_list(list(_rows(texts, problem.passages, batches)))


def _rows(
    queries: Mapping[str, str], passages: Mapping[str, str], batches: Sequence[GlobalBatch]
) -> Iterator[dict[str, str]]:
    for batch in batches:
        for group in batch.groups:
            negatives = {f"negative_{n}": passages[one.passage_id] for n, one in enumerate(group.negatives, start=1)}
            (positive,) = group.positives
            yield {"anchor": queries[group.query_id], "positive": passages[positive.passage_id], **negatives}


def _recorded_loss(model: Any, recipe: Recipe, losses: list[torch.Tensor]) -> torch.nn.Module:
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    class Recorded(MultipleNegativesRankingLoss):
        def forward(self, *inputs: Any) -> torch.Tensor:
            loss = super().forward(*inputs)
            losses.append(loss.detach())
            return loss

    return Recorded(model, scale=1 / recipe.temperature)


def _ticking(watch: _Watch) -> Any:
    from transformers import TrainerCallback

    class Ticking(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.tick(state.global_step)

    return Ticking()


def num_pairs(recipe: Recipe, steps: int) -> int:
    """(query, passage) pairs of ``steps`` steps."""
    return steps * recipe.batch_size * (1 + recipe.num_negatives)


def as_json(recipe: Recipe) -> dict[str, Any]:
    """For a worker's request."""
    return asdict(recipe)
