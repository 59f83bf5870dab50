"""Training objectives on a score matrix.

Legend: Q queries on this process, P passages they are scored against.
The likelihood objectives map ``scores_QP`` and ``is_positive_QP`` to ``loss_Q``, the distillation
objectives take ``utility_QP`` (``-inf`` where it is not known) in place of the mask. Temperature,
visibility and the skipping of rows belong to ``losses/module.py``, scaling to ``training/gather.py``.
Padding is ``-inf`` put in by ``masked_fill``, which also blocks its gradient;
a row that holds only positives has loss and gradient 0 in ``lse_pair``.
Weights multiply a positive's term; ``None`` equals ones.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from winnow.losses.config import PairNegatives, PairPositives


def infonce(scores_QP: Tensor, is_positive_QP: Tensor, weights_QP: Tensor | None = None) -> Tensor:
    """Negative log probability of the one positive of each row (SingleLH).

    A row must hold exactly one positive: positives that were not drawn have to leave the
    candidates first, or they count as negatives. With several, use ``joint_lh`` or ``sum_marg_lh``.

    >>> infonce(torch.tensor([[2.0, 0.5, -1.0]]), torch.tensor([[True, False, False]]))
    tensor([0.2413])
    """
    return joint_lh(scores_QP, is_positive_QP, weights_QP)


def joint_lh(
    scores_QP: Tensor, is_positive_QP: Tensor, weights_QP: Tensor | None = None, *, normalise: bool = False
) -> Tensor:
    """Sum of the positives' negative log probabilities; their mean with ``normalise``.

    Every positive has to win a share of 1/m, so one that dominates is pushed down.
    Published also as Conj-InfoNCE.
    """
    surprise_QP = scores_QP.logsumexp(dim=-1, keepdim=True) - scores_QP
    if weights_QP is not None:
        surprise_QP = weights_QP * surprise_QP
    loss_Q = torch.where(is_positive_QP, surprise_QP, 0.0).sum(dim=-1)
    return loss_Q / is_positive_QP.sum(dim=-1) if normalise else loss_Q


def sum_marg_lh(scores_QP: Tensor, is_positive_QP: Tensor, weights_QP: Tensor | None = None) -> Tensor:
    """Negative log of the probability that falls on the positives together.

    One strong positive is enough, so a false positive among several does little
    harm; use ``joint_lh`` when every label is trusted. Published first as
    Disj-InfoNCE (arXiv 2504.05220v1, eq. 6), later as SumMargLH (v5, eq. 4).

    >>> sum_marg_lh(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[True, True, False]]))
    tensor([0.0943])
    """
    return scores_QP.logsumexp(dim=-1) - _logsumexp_where(is_positive_QP, _weighted(scores_QP, weights_QP))


def lse_pair(
    scores_QP: Tensor,
    is_positive_QP: Tensor,
    weights_QP: Tensor | None = None,
    *,
    positives: PairPositives = "all",
    negatives: PairNegatives = "all",
) -> Tensor:
    """Smooth penalty over every (positive, negative) pair in the wrong order.

    ``log(1 + sum_pn exp(s_n - s_p))`` is a product of two sums, so the pairs are
    never materialised. Weak positives are lifted most. ``positives="min"`` keeps the pairs
    of the lowest-scored positive alone, ``"max"`` those of the highest-scored one;
    ``negatives="max"`` those of the highest-scored negative (arXiv 2602.12727).
    """
    counts_QP = is_positive_QP if weights_QP is None else is_positive_QP & (weights_QP > 0)
    is_paired_QP = _only(positives, counts_QP, scores_QP)
    positives_Q = _logsumexp_where(is_paired_QP, _weighted(-scores_QP, weights_QP))
    negatives_Q = _logsumexp_where(_only(negatives, ~is_positive_QP, scores_QP), scores_QP)
    # Above its threshold softplus is the identity; the default of 20 would cost float64 its last six digits.
    return softplus(negatives_Q + positives_Q, threshold=40)


def kl_utility(scores_QP: Tensor, utility_QP: Tensor) -> Tensor:
    """``KL(softmax(utility) || softmax(scores))`` over the passages whose utility is known (REPLUG).

    Both must be in comparable units: divide each by its own temperature first.
    """
    is_known_QP = utility_QP > -torch.inf
    log_student_QP = scores_QP.masked_fill(~is_known_QP, -torch.inf).log_softmax(dim=-1)
    log_teacher_QP = utility_QP.log_softmax(dim=-1)
    terms_QP = log_teacher_QP.exp() * (log_teacher_QP - log_student_QP)
    return torch.where(is_known_QP, terms_QP, 0.0).sum(dim=-1)


def margin_mse(scores_QP: Tensor, utility_QP: Tensor) -> Tensor:
    """Mean squared error of the margins below the passage of highest utility (arXiv 2010.02666).

    A margin is compared with a margin, so scores and utilities may differ by a constant per row.
    A row with one known utility has no margin and loss 0.
    """
    is_known_QP = utility_QP > -torch.inf
    excess_QP = torch.where(is_known_QP, scores_QP - utility_QP, 0.0)
    best_Q1 = utility_QP.argmax(dim=-1, keepdim=True)
    error_QP = torch.where(is_known_QP, excess_QP.gather(-1, best_Q1) - excess_QP, 0.0)
    num_margins_Q = (is_known_QP.sum(dim=-1) - 1).clamp(min=1)
    return error_QP.square().sum(dim=-1) / num_margins_Q


def _weighted(values_QP: Tensor, weights_QP: Tensor | None) -> Tensor:
    # w * exp(v) = exp(v + log w); a weight of 0 becomes -inf, which is what leaving the term out means.
    return values_QP if weights_QP is None else values_QP + weights_QP.log()


def _only(which: PairPositives, keep_QP: Tensor, scores_QP: Tensor) -> Tensor:
    """``keep_QP`` narrowed to the lowest- or highest-scored passage of each row; the first of equals."""
    if which == "all":
        return keep_QP
    order_QP = -scores_QP if which == "min" else scores_QP
    chosen_Q1 = order_QP.masked_fill(~keep_QP, -torch.inf).argmax(dim=-1, keepdim=True)
    return keep_QP & torch.zeros_like(keep_QP).scatter(-1, chosen_Q1, True)


def _logsumexp_where(keep_QP: Tensor, values_QP: Tensor) -> Tensor:
    # Where all values are -inf, as in a row without negatives, the gradient of logsumexp is nan: block it.
    return values_QP.masked_fill(~keep_QP | values_QP.isneginf(), -torch.inf).logsumexp(dim=-1)
