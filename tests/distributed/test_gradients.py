"""One global batch has one loss and one gradient, however many processes work on it."""

import pytest
import torch
from distributed.gloo_world import batches, cases, gradients, run_world, work_on_gradients, write_tokens
from fakes import MeanTower
from safetensors.torch import load_file

from winnow.files import read_json
from winnow.labels.sampling import Group


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("gradients") / "tokens")


@pytest.fixture(scope="module", params=[1, 2, 4])
def outcomes(request, tokens, tmp_path_factory):
    """Losses and gradients as each process of a world has them."""
    if request.param == 1:
        return [gradients(tokens)]
    folder = tmp_path_factory.mktemp("worlds")
    write_tokens(folder / "tokens")
    world = folder / "world"
    assert run_world(work_on_gradients, request.param, world) == [0] * request.param
    return [
        (read_json(world / f"losses-{rank}.json"), load_file(world / f"tensors-{rank}.safetensors"))
        for rank in range(request.param)
    ]


def likelihood_loss(name: str, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    total = torch.cat([positives, negatives]).exp().sum()
    if name in ("InfoNCE", "JointLH"):
        return -(positives.exp() / total).log().sum()
    if name in ("SumMargLH", "learned"):
        return -(positives.exp().sum() / total).log()
    if name == "LSEPair min max":
        return (1 + (negatives.max() - positives.min()).exp()).log()
    return (1 + (negatives[:, None] - positives[None, :]).exp().sum()).log()


def utility_loss(name: str, utility: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    if name == "KL":
        teacher = utility.softmax(0)
        return (teacher * (teacher / student.softmax(0)).log()).sum()
    best = utility.argmax()
    margins = (student[best] - student) - (utility[best] - utility)
    return margins.square().sum() / (len(student) - 1)


def rows_of_loss(name: str, groups: tuple[Group, ...], scores, column):
    for row, group in enumerate(groups):
        own = [passage.passage_id for passage in group.positives]
        if name in ("KL", "MarginMSE"):
            members = [*group.positives, *group.negatives]
            utility = torch.tensor([m.utility_score for m in members], dtype=torch.float32).double() / 0.5
            yield utility_loss(name, utility, scores[row, [column[m.passage_id] for m in members]])
        elif own:
            others = [name for name in column if name not in own and name not in group.withheld]
            yield likelihood_loss(name, *(scores[row, [column[p] for p in ids]] for ids in (own, others)))


def straightforward(tokens, batch_name: str, name: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient of a step, text by text and row by row."""
    tower, log_temperature = MeanTower(), torch.tensor(2.0, dtype=torch.float64).log().requires_grad_()
    rows = []
    for batch in batches()[batch_name]:
        column = {p: i for i, p in enumerate(batch.passage_ids)}
        texts = [("query", group.query_id) for group in batch.groups], [("passage", name) for name in column]
        queries, passages = (
            torch.cat([tower.embed([tokens.tokens(side, text_id)], side=side) for side, text_id in each])
            for each in texts
        )
        rows += rows_of_loss(name, batch.groups, queries @ passages.T / log_temperature.exp(), column)
    loss = sum(rows) / len(rows)
    loss.backward()
    expected = {key: parameter.grad for key, parameter in tower.module.named_parameters()}
    return loss.item(), {**expected, **({"log_temperature": log_temperature.grad} if name == "learned" else {})}


@pytest.mark.parametrize("way", ["full", "cached"])
@pytest.mark.parametrize(("batch", "loss"), cases())
def test_loss_and_gradient_are_those_of_the_batch_computed_row_by_row(tokens, outcomes, batch, loss, way):
    expected_loss, expected = straightforward(tokens, batch, loss)

    for losses, found in outcomes:
        assert losses[f"{batch}/{loss}/{way}"] == pytest.approx(expected_loss, abs=1e-7 if loss == "learned" else 1e-12)
        for name, gradient in expected.items():
            # A learned temperature is kept in float32; everything else here is in float64.
            close = {"rtol": 1e-6, "atol": 1e-7} if loss == "learned" else {"rtol": 1e-9, "atol": 1e-12}
            torch.testing.assert_close(found[f"{batch}/{loss}/{way}/{name}"].double(), gradient, **close)


def test_the_batches_are_uneven_on_purpose():
    made = batches()

    assert [len(made[name][0].groups) for name in ("seven", "two", "one")] == [7, 2, 1]
    assert any(not group.positives for group in made["seven"][0].groups)
    assert len(made["one"][0].passage_ids) < 4
    assert [len(batch.groups) for batch in made["accumulated"]] == [4, 3]
