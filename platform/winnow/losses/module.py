"""From scores and labels to the losses of the rows that can teach something.

Legend: Q queries, P passages, V queries with a valid row (V <= Q).
"""

from dataclasses import dataclass, fields
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from winnow.errors import DataError
from winnow.losses import objectives
from winnow.losses.config import LossConfig


@dataclass(frozen=True)
class ScoreLabels:
    """What is known of every (query, passage) pair of a score matrix."""

    is_positive_QP: Tensor
    is_visible_QP: Tensor
    """False where a passage may be neither positive nor negative for a query: it leaves the candidates."""
    utility_QP: Tensor | None = None
    """Utility of the query's own passages, ``-inf`` elsewhere. Distillation objectives only."""
    weights_QP: Tensor | None = None

    def to(self, device: torch.device) -> "ScoreLabels":
        """The same labels on ``device``."""
        tensors = (getattr(self, field.name) for field in fields(self))
        return ScoreLabels(*(None if tensor is None else tensor.to(device) for tensor in tensors))


class Loss(Protocol):
    """``loss_V`` of the valid rows, in order. The others are skipped: they have neither loss nor gradient."""

    def __call__(self, scores_QP: Tensor, labels: ScoreLabels) -> Tensor: ...


def build_loss(config: LossConfig) -> Loss:
    """The loss that ``config`` asks for."""
    return UtilityLoss(config) if config.learns_from_utility else LikelihoodLoss(config)


class LikelihoodLoss:
    """InfoNCE, JointLH, SumMargLH, LSEPair. A row without a positive is skipped."""

    def __init__(self, config: LossConfig) -> None:
        by_name = {
            "InfoNCE": objectives.infonce,
            "JointLH": partial(objectives.joint_lh, normalise=config.normalise),
            "SumMargLH": objectives.sum_marg_lh,
            "LSEPair": objectives.lse_pair,
        }
        self._name = config.objective
        self._objective = by_name[config.objective]
        self._temperature = config.temperature

    def __call__(self, scores_QP: Tensor, labels: ScoreLabels) -> Tensor:
        keep_Q = labels.is_positive_QP.any(dim=-1)
        is_positive_VP = labels.is_positive_QP[keep_Q]
        if self._name == "InfoNCE" and (is_positive_VP.sum(dim=-1) > 1).any():
            raise DataError("InfoNCE takes one positive per query, got several; sample with `random_one` or `first`")
        logits_VP = scores_QP[keep_Q] / self._temperature
        visible_VP = logits_VP.masked_fill(~labels.is_visible_QP[keep_Q], -torch.inf)
        weights_VP = None if labels.weights_QP is None else labels.weights_QP[keep_Q]
        return self._objective(visible_VP, is_positive_VP, weights_VP)


class UtilityLoss:
    """KL and MarginMSE, over a query's own passages. A row with fewer than two utilities is skipped."""

    def __init__(self, config: LossConfig) -> None:
        self._objective = {"KL": objectives.kl_utility, "MarginMSE": objectives.margin_mse}[config.objective]
        self._temperature = config.temperature
        self._utility_temperature = config.utility_temperature or 1.0

    def __call__(self, scores_QP: Tensor, labels: ScoreLabels) -> Tensor:
        assert labels.utility_QP is not None, "training/batches.py gives utilities to distillation objectives"
        keep_Q = (labels.utility_QP > -torch.inf).sum(dim=-1) >= 2
        utility_VP = labels.utility_QP[keep_Q].to(scores_QP.dtype) / self._utility_temperature
        return self._objective(scores_QP[keep_Q] / self._temperature, utility_VP)
