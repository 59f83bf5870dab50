"""The global batch, its split, and what a query may make of a passage."""

import math

import pytest
import torch

from winnow.labels.sampling import Group, SamplingConfig
from winnow.records import LabelledPassage, TrainingExample
from winnow.training.batches import GlobalBatch, Schedule, mark_pairs, split_evenly


def labelled(*names, **values):
    return tuple(LabelledPassage(name, "llm", **values) for name in names)


def schedule(num_queries=10, batch_size=4, epochs=2, seed=1, accumulate_batches=1):
    examples = [TrainingExample(f"q{i}", "a question", labelled(f"p{i}"), labelled("n")) for i in range(num_queries)]
    return Schedule(
        examples,
        SamplingConfig(group_size=2),
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
        accumulate_batches=accumulate_batches,
    )


def test_every_query_comes_once_per_epoch_in_an_order_of_that_epoch():
    whole = schedule()

    epochs = [
        [group.query_id for step in steps for batch in whole.batches(step) for group in batch.groups]
        for steps in (range(3), range(3, 6))
    ]

    assert whole.num_steps == 6
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(f"q{i}" for i in range(10))
    assert epochs[0] != epochs[1]


def test_a_step_is_the_same_whether_or_not_others_were_built_before_it():
    walked = schedule()
    for step in range(4):
        walked.batches(step)

    assert walked.batches(4) == schedule().batches(4)


def test_accumulated_batches_are_the_epoch_in_fewer_steps():
    one_by_one, accumulated = schedule(), schedule(accumulate_batches=2)

    assert accumulated.steps_per_epoch == 2
    assert [len(batch.groups) for step in (0, 1) for batch in accumulated.batches(step)] == [4, 4, 2]
    assert accumulated.batches(0) == [*one_by_one.batches(0), *one_by_one.batches(1)]


def test_another_seed_is_another_order():
    assert schedule(seed=1).batches(0) != schedule(seed=2).batches(0)


@pytest.mark.parametrize("num_parts", [1, 2, 3, 8])
def test_a_split_loses_nothing_and_balances_tokens(num_parts):
    lengths = [3, 50, 7, 7, 20, 1, 33, 12, 9, 41]

    parts = split_evenly(lengths, num_parts)

    assert sorted(position for part in parts for position in part) == list(range(10))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    totals = [sum(lengths[position] for position in part) for part in parts]
    assert max(totals) - min(totals) <= 50


def test_a_passage_that_several_queries_name_is_there_once():
    groups = (
        Group("q1", labelled("a"), labelled("b", "c"), frozenset()),
        Group("q2", labelled("b"), labelled("a"), frozenset()),
    )

    assert GlobalBatch(0, groups).passage_ids == ["a", "b", "c"]


def test_positives_of_a_query_are_never_its_negatives_even_when_another_query_brings_them():
    groups = [
        Group("q1", labelled("a"), labelled("b"), frozenset({"x", "absent"})),
        Group("q2", labelled("x"), labelled("a"), frozenset()),
    ]

    labels = mark_pairs(groups, ["a", "b", "x"], with_utilities=False)

    assert labels.is_positive_QP.tolist() == [[True, False, False], [False, False, True]]
    assert labels.is_visible_QP.tolist() == [[True, True, False], [True, True, True]]
    assert labels.utility_QP is None
    assert labels.weights_QP is None


def test_utilities_and_weights_are_those_of_the_own_group():
    groups = [
        Group("q1", labelled("a", utility_score=2.0, weight=0.5), labelled("b", utility_score=-1.0), frozenset()),
        Group("q2", labelled("c"), labelled("a"), frozenset()),
    ]

    labels = mark_pairs(groups, ["a", "b", "c"], with_utilities=True)

    assert labels.utility_QP.tolist() == [[2.0, -1.0, -math.inf], [-math.inf] * 3]
    assert torch.equal(labels.weights_QP, torch.tensor([[0.5, 1.0, 1.0], [1.0, 1.0, 1.0]]))
