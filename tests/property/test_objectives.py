"""The objectives against their formulas written with ``math`` alone, and what must not change them."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.losses.objectives import infonce, joint_lh, kl_utility, lse_pair, margin_mse, sum_marg_lh

VARIANTS = {
    "joint_lh": joint_lh,
    "joint_lh, mean": partial(joint_lh, normalise=True),
    "sum_marg_lh": sum_marg_lh,
    "lse_pair": lse_pair,
    "lse_pair, min positive": partial(lse_pair, positives="min"),
    "lse_pair, max positive": partial(lse_pair, positives="max"),
    "lse_pair, max negative": partial(lse_pair, negatives="max"),
    "lse_pair, min positive, max negative": partial(lse_pair, positives="min", negatives="max"),
}
of_every_variant = pytest.mark.parametrize("objective", VARIANTS.values(), ids=VARIANTS)
of_every_pair_variant = pytest.mark.parametrize(
    "objective", [each for name, each in VARIANTS.items() if "lse_pair" in name]
)

score = st.floats(min_value=-8, max_value=8)
weight = st.floats(min_value=0.1, max_value=3)
several = st.lists(score, min_size=1, max_size=4)
briefly = settings(max_examples=15, deadline=None)


def spelled_out(name, positives, negatives, weights):
    everything = sum(map(math.exp, positives + negatives))
    pairs = list(zip(weights, positives, strict=True))
    if name.startswith("joint_lh"):
        total = -sum(w * math.log(math.exp(p) / everything) for w, p in pairs)
        return total / len(pairs) if "mean" in name else total
    if name == "sum_marg_lh":
        return -math.log(sum(w * math.exp(p) for w, p in pairs) / everything)
    if "positive" in name:
        pairs = [(min if "min" in name else max)(pairs, key=lambda pair: pair[1])]
    if "max negative" in name:
        negatives = [max(negatives)]
    return math.log1p(sum(w * math.exp(n - p) for w, p in pairs for n in negatives))


def as_row(positives, negatives, num_padding=0):
    scores = torch.tensor([positives + negatives + [-math.inf] * num_padding], dtype=torch.float64)
    return scores, torch.arange(scores.shape[1])[None] < len(positives)


def gradient(objective, scores, is_positive, weights=None):
    scores = scores.detach().requires_grad_()
    objective(scores, is_positive, weights).sum().backward()
    return scores.grad


def slope(loss_of, scores, step=1e-5):
    """The gradient of the summed losses by central differences."""
    steps = step * torch.eye(scores.numel(), dtype=scores.dtype).view(-1, *scores.shape)
    rises = [(loss_of(scores + each) - loss_of(scores - each)).sum().item() for each in steps]
    return [rise / (2 * step) for rise in rises]


def batch_of_rows():
    """Three rows with 3, 2 and 1 positives among 6 passages, and weights; no two scores are equal."""
    draws = torch.Generator().manual_seed(7)
    scores = torch.randn(3, 6, dtype=torch.float64, generator=draws)
    weights = 0.5 + torch.rand(3, 6, dtype=torch.float64, generator=draws)
    is_positive = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]], dtype=torch.bool)
    return scores, is_positive, weights


@pytest.mark.parametrize("name", VARIANTS)
@briefly
@given(
    pairs=st.lists(st.tuples(score, weight), min_size=1, max_size=4), negatives=several, num_padding=st.integers(0, 3)
)
def test_equals_formula_with_weights_and_ignores_padding(name, pairs, negatives, num_padding):
    positives, weights = map(list, zip(*pairs, strict=True))
    scores, is_positive = as_row(positives, negatives, num_padding)
    weights_row = torch.tensor([weights + [1.0] * (scores.shape[1] - len(weights))], dtype=torch.float64)

    loss = VARIANTS[name](scores, is_positive, weights_row)

    assert loss.item() == pytest.approx(spelled_out(name, positives, negatives, weights), abs=1e-9)


@of_every_variant
def test_no_weights_equal_weights_of_one(objective):
    scores, is_positive, _ = batch_of_rows()

    plain = objective(scores, is_positive)

    assert plain.tolist() == pytest.approx(objective(scores, is_positive, torch.ones_like(scores)).tolist(), abs=1e-12)


@of_every_pair_variant
def test_a_positive_of_weight_zero_takes_part_in_no_pair(objective):
    scores = torch.tensor([[-3.0, 1.0, 4.0, 0.5, -1.0]], dtype=torch.float64)
    is_positive = torch.tensor([[True, True, True, False, False]])
    weights = torch.tensor([[0.0, 1.0, 0.0, 1.0, 1.0]], dtype=torch.float64)

    loss = objective(scores, is_positive, weights)

    assert loss.item() == pytest.approx(objective(scores[:, [1, 3, 4]], is_positive[:, [1, 3, 4]]).item(), abs=1e-12)


@of_every_variant
@briefly
@given(positives=several, negatives=several, shift=score, data=st.data())
def test_neither_a_shift_nor_the_order_of_passages_matters(objective, positives, negatives, shift, data):
    scores, is_positive = as_row(positives, negatives)
    order = data.draw(st.permutations(range(scores.shape[1])))

    plain = objective(scores, is_positive)

    assert objective(scores[:, order] + shift, is_positive[:, order]).item() == pytest.approx(plain.item(), abs=1e-9)


@of_every_variant
def test_a_row_has_the_same_loss_and_gradient_in_any_batch(objective):
    batch = batch_of_rows()

    together = objective(*batch)
    pulled = gradient(objective, *batch)

    for row in range(3):
        alone = [tensor[row : row + 1] for tensor in batch]
        assert objective(*alone).item() == pytest.approx(together[row].item(), abs=1e-12)
        assert gradient(objective, *alone)[0].tolist() == pytest.approx(pulled[row].tolist(), abs=1e-12)


@of_every_variant
@pytest.mark.parametrize("is_weighted", [False, True])
def test_gradient_is_the_slope_of_the_loss(objective, is_weighted):
    scores, is_positive, weights = batch_of_rows()
    weights = weights if is_weighted else None

    found = gradient(objective, scores, is_positive, weights)

    expected = slope(lambda scores_QP: objective(scores_QP, is_positive, weights), scores)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-8)


@of_every_variant
@briefly
@given(positives=several, negatives=several)
def test_gradient_never_pushes_a_negative_up_and_sums_to_zero(objective, positives, negatives):
    scores, is_positive = as_row(positives, negatives)

    found = gradient(objective, scores, is_positive)

    assert (found[~is_positive] >= 0).all()
    assert found.sum().item() == pytest.approx(0, abs=1e-9)


@briefly
@given(positives=several, negatives=several)
def test_joint_lh_moves_every_positive_towards_an_equal_share(positives, negatives):
    """The gradient is P_i - 1/m: a positive that holds more than its share is pushed down."""
    everything = sum(map(math.exp, positives + negatives))
    expected = [math.exp(p) / everything - 1 / len(positives) for p in positives]

    found = gradient(partial(joint_lh, normalise=True), *as_row(positives, negatives))

    assert found[0, : len(positives)].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("objective", "sign"), [(sum_marg_lh, 1), (lse_pair, -1)])
@briefly
@given(positives=several, negatives=several)
def test_pull_grows_with_the_positive_in_sum_marg_lh_and_falls_in_lse_pair(objective, sign, positives, negatives):
    """The pull on positive i is its share of sum exp(s), or of sum exp(-s), times what is pushed off the negatives."""
    shares = [math.exp(sign * p) / sum(math.exp(sign * q) for q in positives) for p in positives]

    found = gradient(objective, *as_row(positives, negatives))[0]

    pushed = found[len(positives) :].sum().item()
    assert pushed > 0
    assert (-found[: len(positives)]).tolist() == pytest.approx([share * pushed for share in shares], abs=1e-9)


@pytest.mark.parametrize("objective", [infonce, *VARIANTS.values()])
@pytest.mark.parametrize("size", [1e3, 1e4, 1e5])
@pytest.mark.parametrize("positives", [[1, 0, 0, 0], [0, 1, 0, 0]])
def test_extreme_scores_keep_loss_and_gradient_finite(objective, size, positives):
    scores = torch.tensor([[-size, size, size, -size]], requires_grad=True)

    loss = objective(scores, torch.tensor([positives], dtype=torch.bool))
    loss.sum().backward()

    assert torch.isfinite(loss).all()
    assert torch.isfinite(scores.grad).all()


@of_every_variant
@pytest.mark.parametrize("row", [[1.5], [1.5, -math.inf, -math.inf], [1e4, -1e4]])
def test_a_positive_without_a_rival_has_neither_loss_nor_gradient(objective, row):
    is_positive = torch.tensor([[True] + [False] * (len(row) - 1)])

    loss = objective(torch.tensor([row]), is_positive)

    assert loss.item() == 0
    assert gradient(objective, torch.tensor([row]), is_positive).tolist() == [[0] * len(row)]


@of_every_pair_variant
@pytest.mark.parametrize("row", [[1.0, -2.0], [1.0, -2.0, -math.inf]])
def test_lse_pair_is_silent_without_negatives(objective, row):
    is_positive = torch.tensor([[True, True, False][: len(row)]])

    loss = objective(torch.tensor([row]), is_positive)

    assert loss.item() == 0
    assert gradient(objective, torch.tensor([row]), is_positive).tolist() == [[0] * len(row)]


@of_every_variant
def test_padding_put_in_by_masked_fill_has_no_gradient(objective):
    scores = torch.tensor([[1.0, 0.0, 3.0]], requires_grad=True)
    is_padding = torch.tensor([[False, False, True]])

    objective(scores.masked_fill(is_padding, -math.inf), torch.tensor([[True, False, False]])).sum().backward()

    assert scores.grad[0, 2] == 0
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("objective", [kl_utility, margin_mse])
@briefly
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


@pytest.mark.parametrize("objective", [kl_utility, margin_mse])
def test_gradient_of_distillation_is_the_slope_of_the_loss(objective):
    scores, _, utility = batch_of_rows()
    utility[0, 3:] = -math.inf
    scores.requires_grad_()

    objective(scores, utility).sum().backward()

    expected = slope(lambda scores_QP: objective(scores_QP, utility), scores.detach())
    assert scores.grad.flatten().tolist() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("objective", [kl_utility, margin_mse])
def test_extreme_utilities_keep_loss_and_gradient_finite(objective):
    scores = torch.tensor([[-1e4, 1e4, 0.0, 1.0]], requires_grad=True)

    loss = objective(scores, torch.tensor([[1e4, -1e4, 1e4, -math.inf]]))
    loss.sum().backward()

    assert torch.isfinite(loss).all()
    assert torch.isfinite(scores.grad).all()
