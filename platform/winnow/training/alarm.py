"""An alarm for training that has collapsed: it says what is wrong, and keeps the batch.

What the limits rest on. In a trained encoder the scores of a query spread by most of their size (0.74 measured on
MiniLM's cosines) and 128 passages have a participation ratio of about 40. With random weights all texts share one
large part: the spread is 0.003 of the size in a BERT-base and 0.0002 in one of six layers, while the ratio of 32
passages is already 20. So a small spread alone is no collapse: it is one where scores once differed, or where only
rounding is left of their differences. A batch can be odd by chance, so a fault has to last.

Legend: Q queries, P passages that they are scored against, N texts, D dimension.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from winnow.files import replacing
from winnow.labels.sampling import Group
from winnow.modeling.protocol import Side
from winnow.training.batches import GlobalBatch
from winnow.training.tokens import TokenStore
from winnow.training.watching import AlarmConfig

_SOLVED_LOSS = 1e-3
"""Where the loss is this small, the batch is ranked right: equal losses and odd embeddings do no harm."""
_FEWEST_DIRECTIONS = 4
"""With fewer passages or dimensions, a low rank says nothing."""
_ROUNDING = 5e-7
"""Spread of equal scores in fp32."""
_FALLEN = 0.1
"""Scores collapsed if they spread by less than this share of what they once did."""
_SAME_LOSS = 1e-6
_LEAST_MOVEMENT = 1e-5
"""AdamW moves a parameter by about the learning rate per step. Less than this in total may well show no change."""
_CLEARLY_WORSE = 1.01


@dataclass(frozen=True)
class StepHealth:
    """What the alarm looks at. Equal on all workers, so that all of them stop together."""

    loss: float
    grad_norm: float
    score_spread: float
    """Mean over queries of ``score_spread``."""
    effective_rank: float
    """``effective_rank`` of the batch's passages."""
    num_passages: int
    dimension: int
    learning_rate: float


class CollapseAlarm:
    """Watches the steps of one run, from its start or from where it goes on."""

    def __init__(self, config: AlarmConfig) -> None:
        self._config = config
        self.widest_spread = 0.0
        """The widest that a step's scores were; a run that goes on has to be told."""
        self._alike_steps = 0
        self._line_steps = 0
        self._stuck = _StuckLoss(config.patience_steps)

    def check(self, step: int, health: StepHealth) -> str | None:
        """A diagnosis if training has collapsed at ``step``, otherwise ``None``. Call it at every step."""
        if unreal := _not_a_number(health):
            return unreal
        if not self._config.enabled:
            return None
        is_solved = health.loss < _SOLVED_LOSS
        is_alike = not is_solved and health.num_passages > 1 and self._is_narrow(health.score_spread)
        is_line = not is_solved and _has_directions(health) and health.effective_rank < self._config.min_rank
        self._alike_steps = self._alike_steps + 1 if is_alike else 0
        self._line_steps = self._line_steps + 1 if is_line else 0
        is_stuck = self._stuck.after(step, health)
        return self._diagnosis(health, is_stuck=is_stuck)

    def _is_narrow(self, spread: float) -> bool:
        self.widest_spread = max(self.widest_spread, spread)
        return spread < max(_ROUNDING, min(self._config.min_score_spread, _FALLEN * self.widest_spread))

    def _diagnosis(self, health: StepHealth, *, is_stuck: bool) -> str | None:
        patience = self._config.patience_steps
        if self._alike_steps >= patience:
            return (
                f"for {patience} steps the scores of a query's passages have been all alike (spread "
                f"{health.score_spread:.1e} of their size, once {self.widest_spread:.1e}): the encoder gives every "
                f"text the same embedding; lower train.learning_rate, raise train.warmup_share, "
                f"or look for empty or equal texts"
            )
        if self._line_steps >= patience:
            return (
                f"for {patience} steps the embeddings have been of rank one (participation ratio "
                f"{health.effective_rank:.3f} of {health.dimension} dimensions, below {self._config.min_rank:g}): "
                f"texts differ in one direction only; lower train.learning_rate, or raise train.warmup_share"
            )
        if is_stuck:
            return (
                f"for {patience} steps the loss has been stuck at {health.loss:.6g} (gradient norm "
                f"{health.grad_norm:.1e}): what is trained does not move the scores, or the loss is saturated; "
                f"raise train.loss.temperature, lower train.learning_rate, or look at train.lora.targets"
            )
        return None


class _StuckLoss:
    """Counts steps whose loss is the same although the parameters moved.

    A loss that came down to where it stands has converged: several objectives have a floor above 0. So it is
    stuck only above what it has been, or where it has been since the first step.
    """

    def __init__(self, patience_steps: int) -> None:
        self._patience_steps = patience_steps
        self._anchor = math.nan
        self._num_same = 0
        self._movement = 0.0
        self._lowest = math.inf
        self._is_since_start = False

    def after(self, step: int, health: StepHealth) -> bool:
        """Whether the loss is stuck at ``step``."""
        if abs(health.loss - self._anchor) <= _SAME_LOSS * abs(self._anchor):
            self._num_same += 1
            self._movement += health.learning_rate
        else:
            self._start_over(step, health)
        has_lasted = self._num_same >= self._patience_steps and self._movement >= _LEAST_MOVEMENT
        is_worse = self._is_since_start or self._anchor > _CLEARLY_WORSE * self._lowest
        return has_lasted and is_worse and health.loss >= _SOLVED_LOSS

    def _start_over(self, step: int, health: StepHealth) -> None:
        is_first = math.isnan(self._anchor)
        if not is_first:
            self._lowest = min(self._lowest, self._anchor)
        self._anchor, self._num_same, self._movement = health.loss, 1, health.learning_rate
        # A run that goes on from a checkpoint does not know where its loss has been.
        self._is_since_start = is_first and step <= 1


def effective_rank(embeddings_ND: Tensor) -> float:
    """The participation ratio of the embeddings' covariance C, ``(tr C)^2 / tr C^2``: how many directions they use.

    From 1 (a line) to ``min(N - 1, D)``; 0 if all are the same.

    >>> effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    2.0
    """
    if len(embeddings_ND) < 2:
        return 0.0
    centred_ND = embeddings_ND.detach().float()
    centred_ND = centred_ND - centred_ND.mean(dim=0)
    size = centred_ND.norm()
    if size == 0:
        return 0.0
    unit_ND = centred_ND / size
    # C and the Gram matrix have the same eigenvalues; the smaller of the two is cheaper.
    gram = unit_ND @ unit_ND.T if len(unit_ND) < unit_ND.shape[1] else unit_ND.T @ unit_ND
    return 1 / gram.square().sum().item()


def score_spread(scores_QP: Tensor) -> tuple[float, int]:
    """Sum over queries of the spread of their scores, and the number of queries, so that workers can add.

    The spread is the standard deviation as a share of the root mean square: 1 for scores around 0, 0 for
    scores that are all alike. It does not depend on temperature or on the length of the vectors.
    """
    if scores_QP.shape[1] < 2:
        return 0.0, 0
    scores_QP = scores_QP.detach().float()
    deviation_Q = scores_QP.std(dim=1, correction=0)
    size_Q = scores_QP.square().mean(dim=1).sqrt()
    return (deviation_Q / size_Q.clamp_min(torch.finfo(torch.float32).tiny)).sum().item(), len(scores_QP)


def save_batch(directory: Path, step: int, batch: GlobalBatch, tokens: TokenStore, health: StepHealth) -> Path:
    """The JSON file that holds the batch of ``step``: ids and token ids of its texts, and the numbers of the step."""

    def of(side: Side, ids: list[str]) -> dict[str, list[int]]:
        return {text_id: tokens.tokens(side, text_id) for text_id in ids}

    content = {
        "step": step,
        "epoch": batch.epoch,
        # JSON has no word for what is no number.
        "health": {key: value if math.isfinite(value) else str(value) for key, value in asdict(health).items()},
        "groups": [_group(group) for group in batch.groups],
        "query_tokens": of("query", [group.query_id for group in batch.groups]),
        "passage_tokens": of("passage", batch.passage_ids),
    }
    path = directory / f"batch-{step:08d}.json"
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def _group(group: Group) -> dict[str, Any]:
    return {
        "query_id": group.query_id,
        "positives": [passage.passage_id for passage in group.positives],
        "negatives": [passage.passage_id for passage in group.negatives],
    }


def _not_a_number(health: StepHealth) -> str | None:
    for name, value in (("loss", health.loss), ("gradient norm", health.grad_norm)):
        if not math.isfinite(value):
            return (
                f"the {name} became {value}; lower train.learning_rate, raise train.loss.temperature, or train in fp32"
            )
    return None


def _has_directions(health: StepHealth) -> bool:
    return min(health.num_passages - 1, health.dimension) >= _FEWEST_DIRECTIONS
