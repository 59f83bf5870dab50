"""The objectives against the worked example of docs/train.md: positives 2 and 1, negatives 0.5 and -1."""

import math
from functools import partial

import pytest
import torch

from winnow.losses.objectives import infonce, joint_lh, kl_utility, lse_pair, margin_mse, sum_marg_lh

SCORES = torch.tensor([[2.0, 1.0, 0.5, -1.0]], dtype=torch.float64)
POSITIVES = torch.tensor([[True, True, False, False]])

lowest_positive = partial(lse_pair, positives="min")
highest_positive = partial(lse_pair, positives="max")
highest_negative = partial(lse_pair, negatives="max")
joint_lh_mean = partial(joint_lh, normalise=True)


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


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        # One positive against all negatives is InfoNCE with that positive: the values of the first test.
        (lowest_positive, 0.554957),
        (highest_positive, 0.241311),
        (highest_negative, math.log(1 + math.exp(0.5 - 2) + math.exp(0.5 - 1))),
        (partial(lse_pair, positives="min", negatives="max"), math.log(1 + math.exp(0.5 - 1))),
        (partial(lse_pair, positives="max", negatives="max"), math.log(1 + math.exp(0.5 - 2))),
    ],
)
def test_lse_pair_keeps_only_the_pairs_it_is_asked_for(objective, expected):
    assert objective(SCORES, POSITIVES).item() == pytest.approx(expected, abs=1e-6)


def mean_over_single_positives(scores, is_positive):
    """What Rand1LH expects: each positive is drawn equally often, and then the other one is no candidate."""
    return (infonce(scores[:, [0, 2, 3]], is_positive[:, [0, 2, 3]]) + infonce(scores[:, 1:], is_positive[:, 1:])) / 2


@pytest.mark.parametrize(
    ("objective", "pulls"),
    [
        (mean_over_single_positives, [0.10720, 0.21295, -0.26175, -0.05840]),
        (joint_lh, [-0.21892, 0.55158, -0.27198, -0.06069]),
        (joint_lh_mean, [-0.10946, 0.27579, -0.13599, -0.03034]),
        (sum_marg_lh, [0.12160, 0.04473, -0.13599, -0.03034]),
        (lse_pair, [0.13546, 0.36821, -0.41179, -0.09188]),
        (lowest_positive, [0, 0.42590, -0.34821, -0.07770]),
        (highest_positive, [0.21440, 0, -0.17529, -0.03911]),
        (highest_negative, [0.12195, 0.33150, -0.45345, 0]),
    ],
)
def test_pulls_are_those_of_the_table_in_the_documentation(objective, pulls):
    scores = SCORES.clone().requires_grad_()

    objective(scores, POSITIVES).sum().backward()

    assert (-scores.grad[0]).tolist() == pytest.approx(pulls, abs=1e-5)


@pytest.mark.parametrize(
    "objective", [infonce, joint_lh, joint_lh_mean, sum_marg_lh, lse_pair, lowest_positive, highest_positive]
)
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
