"""One global batch has one loss and one gradient, however many processes work on it."""

import pytest
import torch
from distributed.gloo_world import LOSSES, batches, gradients, run_world, work_on_gradients, write_tokens
from fakes import MeanTower
from safetensors.torch import load_file

from winnow.files import read_json
from winnow.labels.sampling import Group

CASES = [(batch, loss) for batch in ("seven", "two", "one") for loss in LOSSES]


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


def row_loss(name: str, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    total = torch.cat([positives, negatives]).exp().sum()
    if name == "JointLH":
        return -(positives.exp() / total).log().sum()
    if name == "SumMargLH":
        return -(positives.exp().sum() / total).log()
    return (1 + (negatives[:, None] - positives[None, :]).exp().sum()).log()


def likelihood_rows(name, groups: list[Group], scores, column):
    for row, group in enumerate(groups):
        own = [passage.passage_id for passage in group.positives]
        others = [passage_id for passage_id in column if passage_id not in own and passage_id not in group.withheld]
        if own:
            yield row_loss(name, *(scores[row, [column[p] for p in ids]] for ids in (own, others)))


def utility_rows(groups: list[Group], scores, column):
    for row, group in enumerate(groups):
        members = [*group.positives, *group.negatives]
        utility = torch.tensor([m.utility_score for m in members], dtype=torch.float32).double() / 0.5
        student = scores[row, [column[m.passage_id] for m in members]].softmax(0)
        yield (utility.softmax(0) * (utility.softmax(0) / student).log()).sum()


def straightforward(tokens, groups: list[Group], name: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient of a batch, text by text and row by row."""
    tower = MeanTower()
    column = {p: i for i, p in enumerate({m.passage_id: 0 for g in groups for m in (*g.positives, *g.negatives)})}

    def embed(side, text_id):
        return tower.embed(*tower.collate([tokens.tokens(side, text_id)]))

    queries = torch.cat([embed("query", group.query_id) for group in groups])
    scores = queries @ torch.cat([embed("passage", passage_id) for passage_id in column]).T / 2.0
    rows = list(utility_rows(groups, scores, column) if name == "KL" else likelihood_rows(name, groups, scores, column))
    loss = sum(rows) / len(rows)
    loss.backward()
    return loss.item(), {key: parameter.grad for key, parameter in tower.module.named_parameters()}


@pytest.mark.parametrize(("batch", "loss"), CASES)
def test_loss_and_gradient_are_those_of_the_batch_computed_row_by_row(tokens, outcomes, batch, loss):
    expected_loss, expected = straightforward(tokens, list(batches()[batch].groups), loss)

    for losses, found in outcomes:
        assert losses[f"{batch}/{loss}"] == pytest.approx(expected_loss, abs=1e-12)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[f"{batch}/{loss}/{name}"], gradient, rtol=1e-9, atol=1e-12)


def test_the_batches_are_uneven_on_purpose():
    groups = batches()

    assert [len(groups[name].groups) for name in ("seven", "two", "one")] == [7, 2, 1]
    assert any(not group.positives for group in groups["seven"].groups)
    assert len(groups["one"].passage_ids) < 4
