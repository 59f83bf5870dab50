"""Temperature, visibility and the rows that are skipped."""

import math

import pytest
import torch

from winnow.errors import DataError
from winnow.losses.config import LossConfig
from winnow.losses.module import ScoreLabels, build_loss

LIKELIHOODS = ["InfoNCE", "JointLH", "SumMargLH", "LSEPair"]


def labels(positive, visible=None, utility=None, weights=None):
    is_positive = torch.tensor(positive, dtype=torch.bool)
    is_visible = torch.ones_like(is_positive) if visible is None else torch.tensor(visible, dtype=torch.bool)
    as_tensor = [None if values is None else torch.tensor(values) for values in (utility, weights)]
    return ScoreLabels(is_positive, is_visible, *as_tensor)


@pytest.mark.parametrize("objective", LIKELIHOODS)
def test_rows_without_a_positive_have_neither_loss_nor_gradient(objective):
    loss = build_loss(LossConfig(objective=objective, temperature=1))
    scores = torch.tensor([[3.0, 0.5, -1.0], [9.0, 9.0, 9.0]], requires_grad=True)

    losses = loss(scores, labels([[1, 0, 0], [0, 0, 0]]))
    losses.sum().backward()

    assert losses.tolist() == pytest.approx([0.095674], abs=1e-6)
    assert scores.grad[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("objective", LIKELIHOODS)
def test_an_invisible_passage_is_not_a_negative(objective):
    loss = build_loss(LossConfig(objective=objective, temperature=1))
    scores = torch.tensor([[3.0, 0.5, -1.0, 7.0]], requires_grad=True)

    losses = loss(scores, labels([[1, 0, 0, 0]], visible=[[1, 1, 1, 0]]))
    losses.sum().backward()

    assert losses.item() == pytest.approx(0.095674, abs=1e-6)
    assert scores.grad[0, 3] == 0


def test_temperature_divides_the_scores():
    loss = build_loss(LossConfig(objective="SumMargLH", temperature=0.05))

    assert loss(torch.tensor([[0.15, 0.025, -0.05]]), labels([[1, 0, 0]])).item() == pytest.approx(0.095674, abs=1e-6)


def test_a_batch_without_a_valid_row_has_an_empty_loss_that_still_reaches_the_scores():
    loss = build_loss(LossConfig(objective="LSEPair", temperature=1))
    scores = torch.ones(2, 3, requires_grad=True)

    losses = loss(scores, labels([[0, 0, 0]] * 2))
    losses.sum().backward()

    assert losses.shape == (0,)
    assert scores.grad.abs().sum() == 0


def test_infonce_refuses_several_positives():
    loss = build_loss(LossConfig(objective="InfoNCE", temperature=1))

    with pytest.raises(DataError, match="random_one"):
        loss(torch.zeros(1, 3), labels([[1, 1, 0]]))


@pytest.mark.parametrize("objective", ["KL", "MarginMSE"])
def test_distillation_skips_rows_with_fewer_than_two_utilities(objective):
    loss = build_loss(LossConfig(objective=objective, temperature=1, utility_temperature=1))
    utility = [[2.0, 1.0, -math.inf], [2.0, -math.inf, -math.inf]]

    losses = loss(torch.zeros(2, 3), labels([[0, 0, 0]] * 2, utility=utility))

    assert losses.shape == (1,)
    assert losses.item() > 0


def test_kl_brings_utilities_to_the_units_of_scores():
    loss = build_loss(LossConfig(objective="KL", temperature=0.05, utility_temperature=10))

    losses = loss(torch.tensor([[0.1, 0.0]]), labels([[0, 0]], utility=[[20.0, 0.0]]))

    assert losses.item() == pytest.approx(0, abs=1e-6)
