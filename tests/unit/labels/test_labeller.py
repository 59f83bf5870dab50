"""One query's judgments and grades to its training example, and the counts over queries."""

from dataclasses import replace

import pytest

from winnow.labels.config import LabelConfig
from winnow.labels.labeller import Labeller
from winnow.labels.opinions import settle
from winnow.labels.pools import PooledPassage, PooledQuery
from winnow.records import Judgment

LOOSE = {"max_positives": 2, "max_drop": 0.2, "negative_margin": 0.3}
POOL = PooledQuery("q", "?", {name: PooledPassage(rank) for rank, name in enumerate("abcdef", start=1)})


def judged(**scores):
    return [Judgment(name, utility_score=score) for name, score in scores.items()]


def chosen(**verdicts):
    """``r``: relevant, ``u``: relevant and useful, ``-``: neither."""
    return [Judgment(name, is_relevant=what in "ru", is_useful=what == "u") for name, what in verdicts.items()]


def labeller(evidence="score", *, relevant_from=1, **settings) -> Labeller:
    return Labeller(LabelConfig(**settings), evidence, relevant_from=relevant_from, seed=1)


def label(judgments, evidence="score", grades=None, status="ok", **settings):
    """The example of one query, and what was counted; one letter per passage."""
    made = labeller(evidence, **settings)
    return made.label(POOL, status, judgments, grades or {}), made.counts


def shown(example) -> tuple[str, str, str]:
    """Each list: passages, with who named them where it is not the judge alone."""
    marks = {"llm": "", "human": "h", "both": "b"}
    sides = (example.positives, example.negatives, example.withheld)
    return tuple(" ".join(p.passage_id + marks[p.source] for p in side) for side in sides)


SCORES = judged(a=1.0, b=0.95, c=0.9, d=0.4, e=0.0)


@pytest.mark.parametrize(
    ("grades", "settings", "expected"),
    [
        ({}, {}, ("a b", "d e", "c")),
        ({"a": 1, "z": 1}, {}, ("ab b zh", "d e", "c")),
        # Rejected by the judge, found by people: in two lists.
        ({"d": 1}, {}, ("a b dh", "d e", "c")),
        # A veto, of a positive, of what is open, of what nobody has seen.
        ({"a": 0, "c": 0, "z": -1}, {}, ("a b", "d e ah ch zh", "c")),
        ({"d": 0}, {}, ("a b", "db e", "c")),
        # TREC DL: related is neither.
        ({"a": 1, "b": 2, "d": 3, "e": 1}, {"relevant_from": 2}, ("a bb dh", "d e", "c ah eh")),
    ],
)
def test_an_example_keeps_what_the_judge_and_what_people_hold(grades, settings, expected):
    example, _ = label(SCORES, grades=grades, **LOOSE, **settings)

    assert shown(example) == expected


@pytest.mark.parametrize("relevant_from", [1, 2])
@pytest.mark.parametrize(
    ("evidence", "judgments"), [("score", SCORES), ("useful", chosen(a="u", b="u", c="u", d="r", e="-"))]
)
def test_without_people_an_example_is_what_the_judge_alone_would_have_made_of_it(evidence, judgments, relevant_from):
    grades = {"a": 0, "b": 2, "c": 1, "d": 1, "e": 2, "y": 0, "z": 3}
    settings = {"max_positives": 2, "max_negatives": 1}
    alone, _ = label(judgments, evidence, **settings)

    example, _ = label(judgments, evidence, grades, relevant_from=relevant_from, **settings)

    assert example != alone
    assert settle(example, knows_people=False) == alone


def test_where_the_judge_finds_nothing_useful_what_it_rejected_is_negative_for_the_human_positive():
    for evidence, judgments in (
        ("useful", chosen(a="-", b="r", c="-")),
        ("rank", [Judgment(name, is_relevant=False) for name in "abc"]),
    ):
        example, counts = label(judgments, evidence, {"c": 1})

        settled = settle(example, knows_people=True)
        assert [p.passage_id for p in settled.positives] == ["c"]
        assert {p.passage_id for p in settled.negatives} == {"a", "b"}
        assert (counts.num_examples, counts.num_only_human, counts.num_positives) == (1, 1, {})


@pytest.mark.parametrize("status", ["malformed", "engine_error", "not_judged"])
def test_a_query_that_was_not_judged_has_what_people_said_alone(status):
    example, counts = label(judged(a=1.0, b=0.0), grades={"b": 1, "a": 0}, status=status)

    assert shown(example) == ("bh", "ah", "")
    assert example.positives[0].utility_score is None
    assert (counts.num_only_human, counts.num_without_negatives, counts.left_out) == (1, 0, {})


def test_only_ok_is_a_label_and_the_rest_is_counted_by_reason():
    made = labeller(**LOOSE, min_score=-1.0)
    judgments = {
        "ok": judged(a=1.0, b=0.0),
        "too_long": judged(a=1.0),
        "engine_error": [],
        "not_judged": [],
    }

    examples = {status: made.label(POOL, status, of) for status, of in judgments.items()}
    made.label(replace(POOL, query_id="low"), "ok", judged(a=-9.0))

    assert [status for status, example in examples.items() if example is not None] == ["ok"]
    assert made.counts.left_out == {"too_long": 1, "engine_error": 1, "not_judged": 1, "no_positive": 1}
    assert made.counts.num_examples == 1


def test_what_was_made_is_counted_as_a_run_has_it_that_knows_people():
    made = labeller(**LOOSE)

    # a vetoed, b agreed on, c withheld, d and e found by people, z rejected by people alone.
    made.label(POOL, "ok", SCORES, {"a": 0, "b": 1, "d": 2, "e": 1, "z": 0})
    made.label(POOL, "ok", judged(a=1.0, b=0.9))

    counts = made.counts
    assert counts.num_positives == {2: 2}
    assert counts.sources == {"llm": 3, "both": 1, "human": 2}
    assert (counts.num_kept_out, counts.num_vetoed) == (2, 1)
    # a and z; the second query has none.
    assert (counts.num_negatives, counts.num_without_negatives, counts.num_withheld) == (2, 1, 1)
