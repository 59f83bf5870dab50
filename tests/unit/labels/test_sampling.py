"""Which positives and hard negatives make a query's group: how many, and whose."""

from dataclasses import replace

import pytest

from winnow.config import build_config
from winnow.errors import ConfigError
from winnow.labels.sampling import Sampler, SamplingConfig, eligible_positives
from winnow.records import LabelledPassage, TrainingExample

SOURCES = {"L": "llm", "B": "both", "H": "human"}


def example(positives: str, num_negatives: int = 9, query_id: str = "q1") -> TrainingExample:
    """A letter per positive: named by the LLM, by people (human), by both. ``LB`` gives the ids ``L0`` and ``B1``."""
    labelled = tuple(LabelledPassage(f"{letter}{i}", SOURCES[letter]) for i, letter in enumerate(positives))
    negatives = tuple(LabelledPassage(f"n{i}", "llm") for i in range(num_negatives))
    return TrainingExample(query_id, "a question", labelled, negatives)


def ids(passages) -> list[str]:
    return [passage.passage_id for passage in passages]


def draw(of: TrainingExample, *, epochs: int = 1, among=None, **settings):
    """The groups of one example, by epoch."""
    sampler = Sampler(among or [of], SamplingConfig(**settings), seed=1)
    return [sampler.group(of, epoch) for epoch in range(epochs)]


def drawn(of: TrainingExample, **settings) -> set[str]:
    """All sets of positives that forty epochs draw."""
    return {" ".join(ids(group.positives)) for group in draw(of, epochs=40, **settings)}


# How many


def test_first_takes_the_first_positive_in_every_epoch():
    assert drawn(example("LLL"), policy="first", group_size=4) == {"L0"}


def test_random_one_takes_another_positive_in_another_epoch_and_withholds_the_rest():
    groups = draw(example("LLL"), epochs=20, policy="random_one", group_size=4)

    assert {group.positives[0].passage_id for group in groups} == {"L0", "L1", "L2"}
    for group in groups:
        assert len(group.positives) == 1
        assert group.withheld == {"L0", "L1", "L2"} - set(ids(group.positives))


def test_all_keeps_a_place_for_a_negative():
    [group] = draw(example("L" * 9), policy="all", group_size=4, max_positives=8)

    assert (len(group.positives), len(group.negatives)) == (3, 1)


def test_all_takes_no_more_than_max_positives():
    [group] = draw(example("L" * 9), policy="all", group_size=8, max_positives=2)

    assert (len(group.positives), len(group.negatives), len(group.withheld)) == (2, 6, 7)


@pytest.mark.parametrize(
    ("numbers", "average"),
    [([1, 2, 3], 2), ([1, 2], 2), ([1, 1, 2], 1), ([2, 3, 2, 3], 3), ([0, 0, 3], 3), ([0], 1), ([9, 9], 4)],
)
def test_average_takes_the_rounded_mean_of_the_queries_that_have_any_up_to_the_cap(numbers, average):
    examples = [example("L" * number, query_id=f"q{i}") for i, number in enumerate(numbers)]
    rich = example("L" * 9, query_id="rich")

    [group] = draw(rich, among=examples, policy="average")

    assert len(group.positives) == average


def test_average_counts_only_positives_that_may_be_drawn():
    examples = [example("LHHH"), example("BBBH", query_id="q2")]

    assert len(draw(example("L" * 9), among=examples, policy="average")[0].positives) == 2
    assert len(draw(example("L" * 9), among=examples, policy="average", labels="union")[0].positives) == 4
    assert len(draw(example("L" * 9), among=examples, policy="average", human_positives="exclude")[0].positives) == 1


def test_few_negatives_are_all_taken():
    [group] = draw(example("L", 2), group_size=8)

    assert ids(group.negatives) == ["n0", "n1"]


def test_a_query_without_eligible_positives_has_a_group_of_negatives():
    [group] = draw(example("HH", 5), policy="random_one", group_size=4)

    assert (group.positives, group.withheld) == ((), {"H0", "H1"})
    assert len(group.negatives) == 4


@pytest.mark.parametrize("policy", ["random_one", "all"])
def test_queries_draw_independently_of_each_other(policy):
    settings = {"policy": policy, "group_size": 4, "max_positives": 2}

    groups = [draw(example("L" * 9, query_id=f"q{i}"), **settings)[0] for i in range(20)]

    assert len({tuple(ids(group.positives)) for group in groups}) > 3


# Whose


@pytest.mark.parametrize(
    ("labels", "human_positives", "eligible"),
    [
        ("llm", "random", "L0 B1"),
        ("llm", "exclude", "L0"),
        ("llm", "include", "L0 B1 H2"),
        ("human", "random", "B1 H2"),
        ("union", "random", "L0 B1 H2"),
        ("union", "include", "L0 B1 H2"),
    ],
)
def test_labels_and_the_treatment_of_human_positives_say_what_may_be_drawn(labels, human_positives, eligible):
    settings = {"labels": labels, "human_positives": human_positives}
    of = example("LBH")

    [group] = draw(of, **settings)

    assert " ".join(ids(group.positives)) == eligible
    assert group.withheld == {"L0", "B1", "H2"} - set(eligible.split())
    assert set(ids(eligible_positives(of, SamplingConfig(**settings), seed=1))) == set(eligible.split())


@pytest.mark.parametrize(
    ("positives", "settings", "expected"),
    [
        # The human positive is the one, whatever the judge made of it.
        ("LLH", {"policy": "random_one", "human_positives": "include"}, {"H2"}),
        ("LBL", {"policy": "random_one", "human_positives": "include"}, {"B1"}),
        ("LBHL", {"policy": "random_one", "human_positives": "include"}, {"B1", "H2"}),
        ("LL", {"policy": "random_one", "human_positives": "include"}, {"L0", "L1"}),
        ("LLHH", {"policy": "first", "human_positives": "include"}, {"H2"}),
        # The first of those that may be drawn.
        ("LBH", {"policy": "first", "labels": "human"}, {"B1"}),
        ("LLH", {"policy": "first", "labels": "human"}, {"H2"}),
        ("BLH", {"policy": "first", "human_positives": "exclude"}, {"L1"}),
        ("LBH", {"policy": "first", "labels": "union"}, {"L0"}),
        # Human positives go first; what room they leave is drawn from the rest.
        ("LLH", {"human_positives": "include", "max_positives": 2}, {"L0 H2", "L1 H2"}),
        # More of them than there is room for are drawn in turn, and nothing else is.
        ("LHBH", {"human_positives": "include", "max_positives": 2}, {"H1 B2", "H1 H3", "B2 H3"}),
    ],
)
def test_which_positives_the_epochs_draw(positives, settings, expected):
    assert drawn(example(positives), **settings) == expected


# Human share


def test_without_its_human_labels_a_query_has_those_of_the_judge_alone():
    queries = [example("LBH", query_id=f"q{i}") for i in range(60)]
    eligible = {
        labels: {
            " ".join(ids(eligible_positives(query, SamplingConfig(labels=labels, human_share=0.5), seed=1)))
            for query in queries
        }
        for labels in ("human", "union")
    }

    assert eligible == {"human": {"B1 H2", ""}, "union": {"L0 B1 H2", "L0 B1"}}


def test_only_known_human_positives_are_always_drawn():
    settings = {"policy": "random_one", "labels": "union", "human_positives": "include", "human_share": 0.5}

    patterns = {frozenset(drawn(example("LBH", query_id=f"q{i}"), **settings)) for i in range(20)}

    assert patterns == {frozenset({"B1", "H2"}), frozenset({"L0", "B1"})}


def test_other_seeds_know_the_labels_of_other_queries():
    queries = [example("H", query_id=f"q{i}") for i in range(50)]
    config = SamplingConfig(labels="human", human_share=0.2)

    known = [{q.query_id for q in queries if eligible_positives(q, config, seed=seed)} for seed in (1, 2)]

    assert known[0] != known[1]


# What people overrule

DISPUTED = TrainingExample(
    "q1",
    "a question",
    (LabelledPassage("vetoed", "llm"), LabelledPassage("agreed", "both"), LabelledPassage("found", "human")),
    (LabelledPassage("found", "llm"), LabelledPassage("plain", "llm"), LabelledPassage("vetoed", "human")),
    (LabelledPassage("near", "llm"), LabelledPassage("related", "human")),
)


@pytest.mark.parametrize(
    ("settings", "positives", "negatives", "withheld"),
    [
        ({}, "agreed", "plain vetoed", "found near related"),
        ({"labels": "union"}, "agreed found", "plain vetoed", "near related"),
        ({"labels": "human"}, "agreed found", "plain vetoed", "near related"),
        ({"human_positives": "exclude"}, "", "plain vetoed", "agreed found near related"),
        ({"human_positives": "include"}, "agreed found", "plain vetoed", "near related"),
        # Nothing that people said is left: neither vetoes, nor positives, nor what they kept out of the negatives.
        ({"human_share": 0}, "vetoed agreed", "found plain", "near"),
        ({"human_share": 0, "labels": "union"}, "vetoed agreed", "found plain", "near"),
    ],
)
def test_people_overrule_the_judge_where_they_are_known(settings, positives, negatives, withheld):
    [group] = draw(DISPUTED, group_size=9, **settings)

    assert " ".join(ids(group.positives)) == positives
    assert " ".join(ids(group.negatives)) == negatives
    assert group.withheld == set(withheld.split())


def test_a_share_of_the_queries_is_cleaned_and_vetoed_also_with_labels_of_the_judge():
    queries = [replace(DISPUTED, query_id=f"q{i}") for i in range(60)]

    groups = [draw(query, group_size=9, human_share=0.5)[0] for query in queries]

    patterns = {(" ".join(ids(group.positives)), " ".join(ids(group.negatives))) for group in groups}
    assert patterns == {("agreed", "plain vetoed"), ("vetoed agreed", "found plain")}


# Settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"human_positives": "exclude", "human_share": 0}, "human_positives=exclude has no effect with human_share=0"),
        ({"labels": "human", "human_positives": "include"}, "human_positives=include"),
        ({"labels": "human", "human_positives": "exclude"}, "human_positives=exclude"),
        ({"labels": "human", "human_share": 0}, "leaves no positive"),
        ({"labels": "union", "human_positives": "exclude"}, "take labels: llm"),
        ({"human_share": 1.5, "labels": "union"}, "human_share"),
        ({"human_share": -0.5, "labels": "union"}, "human_share"),
        ({"group_size": 1}, "group_size"),
        ({"max_positives": 0}, "max_positives"),
        ({"policy": "two"}, "policy"),
        ({"labels": "people"}, "labels"),
    ],
)
def test_settings_that_make_no_sense_or_no_difference_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        build_config(SamplingConfig, settings)
