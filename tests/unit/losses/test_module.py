"""Temperature, visibility and the rows that are skipped."""

import math

import pytest
import torch

from winnow.errors import DataError
from winnow.losses.config import LossConfig
from winnow.losses.module import ScoreLabels, build_loss

LIKELIHOODS = ["InfoNCE", "JointLH", "SumMargLH", "LSEPair"]
LEARNABLE = [*LIKELIHOODS, "KL"]


def labels(positive, visible=None, utility=None, weights=None):
    is_positive = torch.tensor(positive, dtype=torch.bool)
    is_visible = torch.ones_like(is_positive) if visible is None else torch.tensor(visible, dtype=torch.bool)
    as_tensor = [None if values is None else torch.tensor(values) for values in (utility, weights)]
    return ScoreLabels(is_positive, is_visible, *as_tensor)


def config_of(objective, **settings):
    is_distillation = objective in ("KL", "MarginMSE")
    return LossConfig(objective=objective, utility_temperature=1 if is_distillation else None, **settings)


def example(dtype=torch.float32):
    """Scores of two queries and labels that suit every objective."""
    scores = torch.tensor([[0.3, 0.1, -0.2, 0.25], [0.1, 0.4, 0.2, -0.3]], dtype=dtype)
    utility = [[2.0, 1.0, 0.0, -math.inf], [0.5, 1.5, -math.inf, -math.inf]]
    return scores, labels([[1, 0, 0, 0], [0, 0, 1, 0]], utility=utility)


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


def test_an_invisible_positive_is_no_positive():
    loss = build_loss(LossConfig(objective="JointLH", temperature=1))

    losses = loss(
        torch.tensor([[3.0, 0.5, -1.0, 7.0], [1.0, 1.0, 1.0, 1.0]]),
        labels([[1, 0, 0, 1], [0, 0, 0, 1]], visible=[[1, 1, 1, 0]] * 2),
    )

    assert losses.tolist() == pytest.approx([0.095674], abs=1e-6)


@pytest.mark.parametrize("objective", LIKELIHOODS)
def test_a_row_whose_positives_all_weigh_nothing_is_skipped(objective):
    loss = build_loss(LossConfig(objective=objective, temperature=1))
    scores = torch.tensor([[9.0, 9.0, 9.0], [3.0, 0.5, -1.0]], requires_grad=True)

    losses = loss(scores, labels([[1, 0, 0]] * 2, weights=[[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]))
    losses.sum().backward()

    assert losses.tolist() == pytest.approx([0.095674], abs=1e-6)
    assert scores.grad[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("positives", ["all", "min", "max"])
@pytest.mark.parametrize("negatives", ["all", "max"])
@pytest.mark.parametrize("learn", [False, True])
def test_a_row_of_positives_alone_has_a_loss_of_zero_and_no_gradient_in_any_lse_pair(positives, negatives, learn):
    loss = build_loss(
        LossConfig(
            objective="LSEPair",
            temperature=0.02,
            learn_temperature=learn,
            pair_positives=positives,
            pair_negatives=negatives,
        )
    )
    scores = torch.tensor([[1.0, -2.0, 5.0]], requires_grad=True)

    losses = loss(scores, labels([[1, 1, 0]], visible=[[1, 1, 0]]))
    losses.sum().backward()

    assert losses.tolist() == [0]
    assert scores.grad.tolist() == [[0, 0, 0]]
    assert [parameter.grad.item() for parameter in loss.parameters()] == [0] * learn


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"objective": "JointLH"}, 1.990364),
        ({"objective": "JointLH", "normalise": True}, 0.995182),
        ({"objective": "LSEPair"}, 0.700512),
        ({"objective": "LSEPair", "pair_positives": "min"}, 0.554957),
        ({"objective": "LSEPair", "pair_positives": "max"}, 0.241311),
        ({"objective": "LSEPair", "pair_positives": "max", "pair_negatives": "max"}, 0.201413),
    ],
)
def test_settings_reach_the_objective(settings, expected):
    loss = build_loss(LossConfig(temperature=1, **settings))

    losses = loss(torch.tensor([[2.0, 1.0, 0.5, -1.0]]), labels([[1, 1, 0, 0]]))

    assert losses.item() == pytest.approx(expected, abs=1e-6)


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


def test_infonce_refuses_several_positives_in_any_row():
    loss = build_loss(LossConfig(objective="InfoNCE", temperature=1))

    with pytest.raises(DataError, match="random_one"):
        loss(torch.zeros(2, 3), labels([[0, 0, 1], [1, 1, 0]]))


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


@pytest.mark.parametrize("objective", [*LEARNABLE, "MarginMSE"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_are_computed_in_single(objective, dtype):
    loss = build_loss(config_of(objective, temperature=0.01))
    scores, score_labels = example()
    half = scores.to(dtype).requires_grad_()

    losses = loss(half, score_labels)
    losses.sum().backward()

    assert losses.dtype == torch.float32
    assert losses.tolist() == loss(half.detach().float(), score_labels).tolist()
    assert half.grad.dtype == dtype
    assert torch.isfinite(half.grad).all()


@pytest.mark.parametrize("objective", [*LEARNABLE, "MarginMSE"])
def test_a_fixed_temperature_leaves_nothing_to_train(objective):
    loss = build_loss(config_of(objective, temperature=0.05))

    assert list(loss.parameters()) == []
    assert loss.temperature == 0.05


@pytest.mark.parametrize("objective", LEARNABLE)
def test_a_learned_temperature_starts_from_the_fixed_one(objective):
    fixed = build_loss(config_of(objective, temperature=0.05))
    learned = build_loss(config_of(objective, temperature=0.05, learn_temperature=True))

    assert [(name, value.shape, value.dtype) for name, value in learned.named_parameters()] == [
        ("log_temperature", (), torch.float32)
    ]
    assert learned.temperature == pytest.approx(0.05, rel=1e-6)
    assert learned(*example()).tolist() == pytest.approx(fixed(*example()).tolist(), rel=1e-5)


@pytest.mark.parametrize("objective", LEARNABLE)
def test_gradient_of_the_temperature_is_the_slope_of_the_loss(objective):
    loss = build_loss(config_of(objective, temperature=0.2, learn_temperature=True)).double()
    scores, score_labels = example(torch.float64)

    def loss_at(log_temperature):
        return build_loss(config_of(objective, temperature=math.exp(log_temperature)))(scores, score_labels).sum()

    loss(scores, score_labels).sum().backward()

    start = loss.log_temperature.item()
    slope = (loss_at(start + 1e-5) - loss_at(start - 1e-5)).item() / 2e-5
    assert abs(slope) > 0.01
    assert loss.log_temperature.grad.item() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(("outside", "bound"), [(500.0, 100.0), (1e-5, 0.001)])
def test_a_learned_temperature_stays_within_its_bounds_and_can_leave_them_again(outside, bound):
    loss = build_loss(LossConfig(objective="SumMargLH", temperature=1, learn_temperature=True))
    loss.log_temperature.data.fill_(math.log(outside))

    losses = loss(torch.tensor([[1.0, 1.01, 0.5]]), labels([[1, 0, 0]]))
    losses.sum().backward()

    fixed = build_loss(LossConfig(objective="SumMargLH", temperature=bound))
    assert loss.temperature == pytest.approx(bound, rel=1e-5)
    assert losses.item() == pytest.approx(fixed(torch.tensor([[1.0, 1.01, 0.5]]), labels([[1, 0, 0]])).item(), rel=1e-4)
    assert loss.log_temperature.grad.item() != 0


def test_a_batch_without_a_valid_row_still_reaches_the_temperature():
    """Or its gradient would be missing on one worker and not on another."""
    loss = build_loss(LossConfig(objective="LSEPair", temperature=1, learn_temperature=True))

    loss(torch.ones(2, 3), labels([[0, 0, 0]] * 2)).sum().backward()

    assert loss.log_temperature.grad.item() == 0


def test_two_known_utilities_make_one_margin():
    """The scores differ by 1, the utilities by 2: the squared error is 1, over one margin."""
    loss = build_loss(config_of("MarginMSE", temperature=1))

    losses = loss(torch.tensor([[1.0, 0.0, 5.0]]), labels([[0, 0, 0]], utility=[[2.0, 0.0, -math.inf]]))

    assert losses.tolist() == [1.0]
