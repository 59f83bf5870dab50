"""From scores and labels to the losses of the rows that can teach something.

Legend: Q queries, P passages, V queries with a valid row (V <= Q).
"""

import math
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor, nn

from winnow.errors import DataError
from winnow.losses import objectives
from winnow.losses.config import LEARNED_TEMPERATURES, LossConfig


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


class Loss(nn.Module):
    """``loss_V`` of the valid rows, in order. The others are skipped: they have neither loss nor gradient.

    Its only parameter is ``log_temperature``, and that only where the temperature is learned. Arithmetic is in
    float32, or in float64 for scores in float64.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self._fixed_temperature = config.temperature
        self.log_temperature: nn.Parameter | None = None
        if config.learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature), dtype=torch.float32))

    @property
    def temperature(self) -> float:
        """What scores are divided by at present."""
        if self.log_temperature is None:
            return self._fixed_temperature
        low, high = LEARNED_TEMPERATURES
        return min(max(math.exp(self.log_temperature.item()), low), high)

    def _logits(self, scores_QP: Tensor) -> Tensor:
        """Scores over the temperature."""
        scores_QP = scores_QP.to(torch.promote_types(scores_QP.dtype, torch.float32))
        if self.log_temperature is None:
            return scores_QP / self._fixed_temperature
        # The parameter itself is brought back between its bounds: a clamp in the graph has gradient 0 outside of
        # them, so a temperature that has once left them could not return.
        with torch.no_grad():
            self.log_temperature.clamp_(*map(math.log, LEARNED_TEMPERATURES))
        return scores_QP / self.log_temperature.to(scores_QP.dtype).exp()


class LikelihoodLoss(Loss):
    """InfoNCE, JointLH, SumMargLH, LSEPair. A row without a visible positive of weight > 0 is skipped."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__(config)
        by_name = {
            "InfoNCE": objectives.infonce,
            "JointLH": partial(objectives.joint_lh, normalise=config.normalise),
            "SumMargLH": objectives.sum_marg_lh,
            "LSEPair": partial(objectives.lse_pair, positives=config.pair_positives, negatives=config.pair_negatives),
        }
        self._name = config.objective
        self._objective = by_name[config.objective]

    def forward(self, scores_QP: Tensor, labels: ScoreLabels) -> Tensor:
        is_positive_QP = labels.is_positive_QP & labels.is_visible_QP
        counts_QP = is_positive_QP if labels.weights_QP is None else is_positive_QP & (labels.weights_QP > 0)
        keep_Q = counts_QP.any(dim=-1)
        is_positive_VP = is_positive_QP[keep_Q]
        if self._name == "InfoNCE" and (is_positive_VP.sum(dim=-1) > 1).any():
            raise DataError("InfoNCE takes one positive per query, got several; sample with `random_one` or `first`")
        logits_VP = self._logits(scores_QP[keep_Q])
        visible_VP = logits_VP.masked_fill(~labels.is_visible_QP[keep_Q], -torch.inf)
        weights_VP = None if labels.weights_QP is None else labels.weights_QP[keep_Q].to(logits_VP.dtype)
        return self._objective(visible_VP, is_positive_VP, weights_VP)


class UtilityLoss(Loss):
    """KL and MarginMSE, over a query's own passages. A row with fewer than two utilities is skipped."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__(config)
        self._objective = {"KL": objectives.kl_utility, "MarginMSE": objectives.margin_mse}[config.objective]
        assert config.utility_temperature is not None, "losses/config.py requires it of distillation objectives"
        self._utility_temperature = config.utility_temperature

    def forward(self, scores_QP: Tensor, labels: ScoreLabels) -> Tensor:
        assert labels.utility_QP is not None, "training/batches.py gives utilities to distillation objectives"
        keep_Q = (labels.utility_QP > -torch.inf).sum(dim=-1) >= 2
        logits_VP = self._logits(scores_QP[keep_Q])
        utility_VP = labels.utility_QP[keep_Q].to(logits_VP.dtype) / self._utility_temperature
        return self._objective(logits_VP, utility_VP)


def build_loss(config: LossConfig) -> Loss:
    """The loss that ``config`` asks for, a module called as ``loss(scores_QP, labels) -> loss_V``."""
    return UtilityLoss(config) if config.learns_from_utility else LikelihoodLoss(config)
