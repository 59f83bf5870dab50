"""Gradient steps over one batch, to be timed: full and with the gradient cache, and with each objective."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from synthetic_training import Problem, write_tokens
from training_variants import Recipe, planned_batches

from winnow.losses.config import LossConfig
from winnow.losses.module import build_loss
from winnow.modeling.encoder import DenseEncoder
from winnow.training.batches import mark_pairs
from winnow.training.gradients import GradientStep

OBJECTIVES = ["InfoNCE", "JointLH", "SumMargLH", "LSEPair", "KL", "MarginMSE"]


class Steps:
    """Gradient steps over the first batch of a problem."""

    def __init__(
        self, directory: Path, problem: Problem, recipe: Recipe, *, micro_batch_tokens: int, use_cache: bool = False
    ) -> None:
        self.encoder = DenseEncoder.load(directory, device=recipe.device)
        self.batch = planned_batches(problem, recipe, 1)[0]
        self._settings = {
            "micro_batch_tokens": micro_batch_tokens,
            "precision": recipe.precision,
            "use_cache": use_cache,
        }
        with tempfile.TemporaryDirectory(prefix="winnow-training-") as name:
            own = Problem(problem.examples[: recipe.batch_size], problem.passages)
            self._tokens = write_tokens(own, self.encoder.tokenize, Path(name) / "tokens")
        self._infonce = self.step("InfoNCE")

    def step(self, objective: str) -> GradientStep:
        """A step with ``objective``."""
        config = loss_config(objective)
        return GradientStep(
            self.encoder,
            self._tokens,
            build_loss(config).to(self.encoder.device),
            with_utilities=config.learns_from_utility,
            **self._settings,
        )

    def take(self, step: GradientStep) -> float:
        """Seconds of a step."""
        self.encoder.module.zero_grad(set_to_none=True)
        started = time.perf_counter()
        step.run([self.batch])
        if self.encoder.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    def once(self, *, repeats: int = 1, keep: str | None = None) -> dict[str, Any]:
        """The seconds of a step, the mean of ``repeats``; the gradient goes to the file ``keep``."""
        seconds = sum(self.take(self._infonce) for _ in range(repeats)) / repeats
        if keep:
            named = self.encoder.module.named_parameters()
            save_file({name: value.grad.contiguous() for name, value in named if value.grad is not None}, keep)
        return {"seconds": seconds}


class ObjectiveSteps:
    """Steps with each objective over one batch, and each loss alone on scores of the same shape."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._by_name = {name: steps.step(name) for name in OBJECTIVES}
        self._turn = 0
        for step in self._by_name.values():
            steps.take(step)

    def once(self) -> dict[str, Any]:
        """Seconds of a step with each objective, and of each loss."""
        # Another objective begins each time, so that none is always the one after a pause.
        self._turn += 1
        names = [OBJECTIVES[(self._turn + offset) % len(OBJECTIVES)] for offset in range(len(OBJECTIVES))]
        steps = {name: self._steps.take(self._by_name[name]) for name in names}
        losses = {name: self._loss_seconds(name) for name in names}
        return {"seconds": sum(steps.values()), "steps": steps, "losses": losses}

    def _loss_seconds(self, objective: str, *, repeats: int = 20) -> float:
        """Seconds of a loss and its backward pass."""
        config, batch = loss_config(objective), self._steps.batch
        loss = build_loss(config)
        labels = mark_pairs(batch.groups, batch.passage_ids, with_utilities=config.learns_from_utility)
        scores_QP = torch.rand(labels.is_positive_QP.shape, generator=torch.Generator().manual_seed(1))
        scores_QP.requires_grad_()
        started = time.perf_counter()
        for _ in range(repeats):
            loss(scores_QP, labels).mean().backward()
        return (time.perf_counter() - started) / repeats


def loss_config(objective: str) -> LossConfig:
    """A configuration of ``objective``; those that learn from utilities need to be told their unit."""
    unit = {"utility_temperature": 1.0} if objective in ("KL", "MarginMSE") else {}
    return LossConfig(objective=objective, temperature=0.05, **unit)


def gradients_apart(one: str, other: str) -> float:
    """The largest difference of the gradients in two files, relative to the largest gradient."""
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys(), "the two do not train the same parameters"
    largest = max(gradient.abs().max().item() for gradient in second.values())
    return max((first[name] - second[name]).abs().max().item() for name in second) / largest
