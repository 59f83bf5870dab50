"""The objectives against the worked example of docs/train.md: positives 2 and 1, negatives 0.5 and -1."""

import math

import pytest
import torch

from winnow.losses.objectives import infonce, joint_lh, kl_utility, lse_pair, margin_mse, sum_marg_lh

SCORES = torch.tensor([[2.0, 1.0, 0.5, -1.0]], dtype=torch.float64)
POSITIVES = torch.tensor([[True, True, False, False]])


def test_infonce_scores_each_positive_against_all_candidates():
    first = infonce(SCORES[:, [0, 2, 3]], POSITIVES[:, [0, 2, 3]])
    second = infonce(SCORES[:, [1, 2, 3]], POSITIVES[:, [1, 2, 3]])

    assert first.item() == pytest.approx(0.241311, abs=1e-6)
    assert second.item() == pytest.approx(0.554957, abs=1e-6)
    assert (first + second).item() / 2 == pytest.approx(0.398134, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "expected"), [(joint_lh, 1.990364), (sum_marg_lh, 0.181920), (lse_pair, 0.700512)]
)
def test_several_positives_give_the_published_values(objective, expected):
    assert objective(SCORES, POSITIVES).item() == pytest.approx(expected, abs=1e-6)


def test_normalised_joint_lh_is_the_mean():
    assert joint_lh(SCORES, POSITIVES, normalise=True).item() == pytest.approx(0.995182, abs=1e-6)


@pytest.mark.parametrize("objective", [infonce, joint_lh, sum_marg_lh, lse_pair])
def test_all_are_equal_with_a_single_positive(objective):
    scores = torch.tensor([[3.0, 0.5, -1.0]], dtype=torch.float64)

    loss = objective(scores, torch.tensor([[True, False, False]]))

    assert loss.item() == pytest.approx(0.095674, abs=1e-6)


def test_kl_compares_the_two_distributions_of_the_known_passages():
    utility = torch.tensor([[1.0, 0.0, -math.inf, -math.inf]], dtype=torch.float64)
    teacher = [math.e / (math.e + 1), 1 / (math.e + 1)]
    student = [math.exp(2) / (math.exp(2) + math.e), math.e / (math.exp(2) + math.e)]
    expected = sum(u * math.log(u / r) for u, r in zip(teacher, student, strict=True))

    assert kl_utility(SCORES, utility).item() == pytest.approx(expected, abs=1e-12)
    assert kl_utility(SCORES + 5, SCORES).item() == pytest.approx(0, abs=1e-12)


def test_margin_mse_compares_margins_below_the_best_passage():
    utility = torch.tensor([[1.0, 4.0, 2.0, -math.inf]], dtype=torch.float64)
    # The best is the second: margins 3 and 2 in utility, -1 and 0.5 in scores.
    expected = ((-1 - 3) ** 2 + (0.5 - 2) ** 2) / 2

    assert margin_mse(SCORES, utility).item() == pytest.approx(expected)
