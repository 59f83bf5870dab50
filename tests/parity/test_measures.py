"""Measures against values worked out by hand from their definitions, on inputs of a few lines.

nDCG@k here: gain is the relevance, discount ``log2(rank + 1)``, the ideal order is that of all judged passages.
"""

import math

import pytest

from winnow.evaluation.measures import answerable, mean, measure_rankings

MEASURES = ["RR@10", "nDCG@10", "R@10", "R@100"]

QRELS = {
    "binary": {"p1": 1, "p2": 1, "p3": 0},
    "graded": {"p1": 2, "p2": 1},
    "deep": {"p12": 1},
    "missed": {"p9": 1},
    "nothing": {"p9": 1},
}
RANKINGS = {
    "binary": ["p3", "p1", "p4", "p2"],
    "graded": ["p2", "p1"],
    "deep": [f"p{rank}" for rank in range(1, 21)],
    "missed": ["p1", "p2"],
}


@pytest.fixture(scope="module")
def values():
    return measure_rankings(RANKINGS, QRELS, MEASURES)


def test_reciprocal_rank_is_of_the_first_relevant_passage_within_the_cutoff(values):
    assert values["RR@10"] == {"binary": 1 / 2, "graded": 1.0, "deep": 0.0, "missed": 0.0, "nothing": 0.0}


def test_ndcg_is_discounted_gain_over_that_of_the_ideal_order(values):
    binary = (1 / math.log2(3) + 1 / math.log2(5)) / (1 / math.log2(2) + 1 / math.log2(3))
    graded = (1 / math.log2(2) + 2 / math.log2(3)) / (2 / math.log2(2) + 1 / math.log2(3))
    expected = {"binary": binary, "graded": graded, "deep": 0.0, "missed": 0.0, "nothing": 0.0}

    assert values["nDCG@10"] == pytest.approx(expected)


def test_recall_counts_what_was_found_within_the_cutoff(values):
    assert values["R@10"] == {"binary": 1.0, "graded": 1.0, "deep": 0.0, "missed": 0.0, "nothing": 0.0}
    assert values["R@100"] == {"binary": 1.0, "graded": 1.0, "deep": 1.0, "missed": 0.0, "nothing": 0.0}


def test_ideal_order_counts_at_most_ten_relevant_passages():
    qrels = {"q": {f"p{index}": 1 for index in range(20)}}
    rankings = {"q": [f"p{index}" for index in range(10)]}

    values = measure_rankings(rankings, qrels, MEASURES)

    assert values["nDCG@10"]["q"] == pytest.approx(1.0)
    assert values["R@10"]["q"] == 0.5


def test_rank_decides_even_if_ids_would_break_a_tie_the_other_way():
    one_way = measure_rankings({"q": ["a", "z"]}, {"q": {"a": 1}}, ["RR@10", "nDCG@10"])
    other_way = measure_rankings({"q": ["z", "a"]}, {"q": {"z": 1}}, ["RR@10", "nDCG@10"])

    assert one_way == other_way == {"RR@10": {"q": 1.0}, "nDCG@10": {"q": 1.0}}


def test_questions_without_a_relevant_passage_are_left_out():
    qrels = {"judged": {"p1": 1}, "all useless": {"p1": 0}, "empty": {}}

    values = measure_rankings({"judged": ["p1"], "all useless": ["p1"], "unknown": ["p1"]}, qrels, ["RR@10"])

    assert list(answerable(qrels)) == ["judged"]
    assert values == {"RR@10": {"judged": 1.0}}


def test_mean_of_no_questions_is_not_a_number():
    assert mean({"a": 1.0, "b": 0.0}) == 0.5
    assert math.isnan(mean({}))


GRADES = {"q1": {"a": 3, "b": 1, "c": 2, "d": 0}, "related only": {"a": 1}, "nothing": {"a": 0}}
RANKED = {"q1": ["b", "d", "c", "x", "a"], "related only": ["a"], "nothing": ["a"]}


def test_the_lowest_relevant_grade_counts_in_binary_measures_and_nDCG_keeps_the_grades():
    """With 2 as the lowest, b is no hit: c is the first one, at rank 3; a is the other, at rank 5."""
    names = ["RR@10", "R@3", "P@5", "AP@10", "Success@2", "nDCG@10"]

    values = measure_rankings(RANKED, GRADES, names, relevant_from=2)

    assert list(answerable(GRADES, relevant_from=2)) == ["q1"]
    assert {name: found.keys() for name, found in values.items()} == {name: {"q1"} for name in names}
    by_name = {name: found["q1"] for name, found in values.items()}
    gain = sum(grade / math.log2(rank + 1) for rank, grade in ((1, 1), (3, 2), (5, 3)))
    ideal = sum(grade / math.log2(rank + 1) for rank, grade in ((1, 3), (2, 2), (3, 1)))
    assert by_name == pytest.approx(
        {
            "RR@10": 1 / 3,
            "R@3": 1 / 2,
            "P@5": 2 / 5,
            "AP@10": (1 / 3 + 2 / 5) / 2,
            "Success@2": 0.0,
            "nDCG@10": gain / ideal,
        }
    )


def test_by_default_every_grade_above_0_is_relevant():
    values = measure_rankings(RANKED, GRADES, ["RR@10"])

    assert values == {"RR@10": {"q1": 1.0, "related only": 1.0}}
