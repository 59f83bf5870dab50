"""Policies: which positives and hard negatives make a query's group."""

import pytest

from winnow.labels.sampling import SamplingConfig, sample_group
from winnow.records import LabelledPassage, TrainingExample


def example(num_positives, num_negatives, query_id="q1"):
    positives = tuple(LabelledPassage(f"p{i}", "llm") for i in range(num_positives))
    negatives = tuple(LabelledPassage(f"n{i}", "llm") for i in range(num_negatives))
    return TrainingExample(query_id, "a question", positives, negatives)


def ids(passages):
    return [passage.passage_id for passage in passages]


def test_first_takes_the_first_positive_in_every_epoch():
    config = SamplingConfig(policy="first", group_size=4)

    drawn = {tuple(ids(sample_group(example(3, 9), config, seed=1, epoch=epoch).positives)) for epoch in range(8)}

    assert drawn == {("p0",)}


def test_random_one_takes_another_positive_in_another_epoch_and_withholds_the_rest():
    config = SamplingConfig(policy="random_one", group_size=4)

    groups = [sample_group(example(3, 9), config, seed=1, epoch=epoch) for epoch in range(20)]

    assert {group.positives[0].passage_id for group in groups} == {"p0", "p1", "p2"}
    for group in groups:
        assert len(group.positives) == 1
        assert group.withheld == {"p0", "p1", "p2"} - set(ids(group.positives))


def test_all_keeps_a_place_for_a_negative():
    group = sample_group(example(9, 9), SamplingConfig(policy="all", group_size=4, max_positives=8), seed=1, epoch=0)

    assert len(group.positives) == 3
    assert len(group.negatives) == 1


def test_all_takes_no_more_than_max_positives():
    group = sample_group(example(9, 9), SamplingConfig(policy="all", group_size=8, max_positives=2), seed=1, epoch=0)

    assert len(group.positives) == 2
    assert len(group.negatives) == 6
    assert len(group.withheld) == 7


def test_few_negatives_are_all_taken():
    group = sample_group(example(1, 2), SamplingConfig(group_size=8), seed=1, epoch=0)

    assert ids(group.negatives) == ["n0", "n1"]


def test_a_query_without_positives_has_a_group_of_negatives():
    group = sample_group(example(0, 5), SamplingConfig(policy="random_one", group_size=4), seed=1, epoch=0)

    assert group.positives == ()
    assert len(group.negatives) == 4


@pytest.mark.parametrize("policy", ["random_one", "all"])
def test_queries_draw_independently_of_each_other(policy):
    config = SamplingConfig(policy=policy, group_size=4, max_positives=2)

    drawn = {
        tuple(ids(sample_group(example(9, 9, query_id=f"q{i}"), config, seed=1, epoch=0).positives)) for i in range(20)
    }

    assert len(drawn) > 3
