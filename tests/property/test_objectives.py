"""The objectives against their formulas written with ``math`` alone, and what must not change them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from winnow.losses.objectives import joint_lh, kl_utility, lse_pair, margin_mse, sum_marg_lh

score = st.floats(min_value=-8, max_value=8)
weight = st.floats(min_value=0.1, max_value=3)
several = st.lists(score, min_size=1, max_size=4)
MANY_POSITIVES = [joint_lh, sum_marg_lh, lse_pair]


def spelled_out(objective, positives, negatives, weights):
    everything = sum(map(math.exp, positives + negatives))
    pairs = list(zip(weights, positives, strict=True))
    if objective is joint_lh:
        return -sum(w * math.log(math.exp(p) / everything) for w, p in pairs)
    if objective is sum_marg_lh:
        return -math.log(sum(w * math.exp(p) for w, p in pairs) / everything)
    return math.log1p(sum(w * math.exp(n - p) for w, p in pairs for n in negatives))


def as_row(positives, negatives, num_padding=0):
    scores = torch.tensor([positives + negatives + [-math.inf] * num_padding], dtype=torch.float64)
    return scores, torch.arange(scores.shape[1])[None] < len(positives)


@pytest.mark.parametrize("objective", MANY_POSITIVES)
@given(positives=several, negatives=several, num_padding=st.integers(0, 3))
def test_equals_formula_and_ignores_padding(objective, positives, negatives, num_padding):
    loss = objective(*as_row(positives, negatives, num_padding))

    expected = spelled_out(objective, positives, negatives, [1.0] * len(positives))
    assert loss.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("objective", MANY_POSITIVES)
@given(pairs=st.lists(st.tuples(score, weight), min_size=1, max_size=4), negatives=several)
def test_weights_multiply_the_terms_of_positives(objective, pairs, negatives):
    positives, weights = map(list, zip(*pairs, strict=True))
    scores, is_positive = as_row(positives, negatives)
    weights_row = torch.tensor([weights + [1.0] * len(negatives)], dtype=torch.float64)

    loss = objective(scores, is_positive, weights_row)

    assert loss.item() == pytest.approx(spelled_out(objective, positives, negatives, weights), abs=1e-9)


@pytest.mark.parametrize("objective", MANY_POSITIVES)
@given(positives=several, negatives=several, shift=score, data=st.data())
def test_neither_a_shift_nor_the_order_of_passages_matters(objective, positives, negatives, shift, data):
    scores, is_positive = as_row(positives, negatives)
    order = data.draw(st.permutations(range(scores.shape[1])))

    plain = objective(scores, is_positive)

    assert objective(scores[:, order] + shift, is_positive[:, order]).item() == pytest.approx(plain.item(), abs=1e-9)


@pytest.mark.parametrize("objective", MANY_POSITIVES)
@given(positives=several, negatives=several)
def test_gradient_never_pushes_a_negative_up_and_sums_to_zero(objective, positives, negatives):
    scores, is_positive = as_row(positives, negatives)
    scores.requires_grad_()

    objective(scores, is_positive).sum().backward()

    assert (scores.grad[~is_positive] >= 0).all()
    assert scores.grad.sum().item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("objective", MANY_POSITIVES)
@pytest.mark.parametrize("size", [1e3, 1e5])
def test_extreme_scores_keep_loss_and_gradient_finite(objective, size):
    scores = torch.tensor([[-size, size, size, -size]], requires_grad=True)

    loss = objective(scores, torch.tensor([[True, True, False, False]]))
    loss.sum().backward()

    assert torch.isfinite(loss).all()
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("objective", MANY_POSITIVES)
def test_padding_put_in_by_masked_fill_has_no_gradient(objective):
    scores = torch.tensor([[1.0, 0.0, 3.0]], requires_grad=True)
    is_padding = torch.tensor([[False, False, True]])

    objective(scores.masked_fill(is_padding, -math.inf), torch.tensor([[True, False, False]])).sum().backward()

    assert scores.grad[0, 2] == 0
    assert torch.isfinite(scores.grad).all()


def test_lse_pair_is_silent_without_negatives():
    scores = torch.tensor([[1.0, -2.0]], requires_grad=True)

    loss = lse_pair(scores, torch.tensor([[True, True]]))
    loss.sum().backward()

    assert loss.item() == 0
    assert scores.grad.tolist() == [[0, 0]]


def test_objectives_disagree_on_the_weaker_positive():
    """SumMargLH leaves it alone; LSEPair pulls it up hardest. The reason both exist."""
    pull = {}
    for objective in (sum_marg_lh, lse_pair):
        scores = torch.tensor([[2.0, 0.0, 1.0]], requires_grad=True)
        objective(scores, torch.tensor([[True, True, False]])).sum().backward()
        strong, weak = scores.grad[0, :2].neg().tolist()
        pull[objective] = weak / strong

    assert pull[sum_marg_lh] < 1 < pull[lse_pair]


def test_joint_lh_pushes_down_a_positive_that_dominates():
    scores = torch.tensor([[5.0, 0.0, 0.0]], requires_grad=True)

    joint_lh(scores, torch.tensor([[True, True, False]])).sum().backward()

    assert scores.grad[0, 0] > 0 > scores.grad[0, 1]


@pytest.mark.parametrize("objective", [kl_utility, margin_mse])
@given(rows=st.lists(st.tuples(score, score), min_size=2, max_size=5), shift=score, outsider=score)
def test_distillation_ignores_shifts_and_passages_without_utility(objective, rows, shift, outsider):
    scores, utilities = (torch.tensor([list(column)], dtype=torch.float64) for column in zip(*rows, strict=True))
    # A tie for the best utility would leave the choice of the reference passage to rounding.
    utilities[0, 0] += 20
    wider = torch.cat([scores + shift, torch.tensor([[outsider]])], dim=1).requires_grad_()
    unknown = torch.tensor([[-math.inf]], dtype=torch.float64)

    plain = objective(scores, utilities)
    same = objective(wider, torch.cat([utilities, unknown], dim=1))
    same.sum().backward()

    assert plain.item() >= -1e-12
    assert same.item() == pytest.approx(plain.item(), abs=1e-8)
    assert wider.grad[0, -1] == 0
    assert torch.isfinite(wider.grad).all()
