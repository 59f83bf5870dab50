"""From verdicts, rankings and scores to positives and hard negatives."""

import pytest

from winnow.config import build_config
from winnow.errors import ConfigError
from winnow.labels.config import LabelConfig
from winnow.labels.from_judgments import Labeller, split_pool
from winnow.labels.pools import PooledPassage, PooledQuery
from winnow.records import Judgment

LOOSE = {"max_positives": 2, "max_drop": 0.2, "negative_margin": 0.3}


def judged(**scores):
    return [Judgment(name, utility_score=score) for name, score in scores.items()]


def chosen(**verdicts):
    """``r``: relevant, ``u``: relevant and useful, ``-``: neither."""
    return [Judgment(name, is_relevant=what in "ru", is_useful=what == "u") for name, what in verdicts.items()]


def ordered(names: str, *, relevant: str = "", rest: str = "") -> list[Judgment]:
    """A utility ranking; ``relevant`` was left out of it, ``rest`` is not even relevant."""
    ranking = [Judgment(name, is_relevant=True, utility_rank=rank) for rank, name in enumerate(names, start=1)]
    return ranking + [Judgment(n, is_relevant=True) for n in relevant] + [Judgment(n, is_relevant=False) for n in rest]


def split(judgments, passages=None, human="", **settings):
    result = split_pool(judgments, LabelConfig(**settings), passages or {}, human)
    return "".join(p.passage_id for p in result.positives), "".join(n.passage_id for n in result.negatives)


def label(judgments, human="", status="ok", **settings):
    """The example of one query, and what was counted; one letter per passage."""
    labeller = Labeller(LabelConfig(**settings))
    return labeller.label(PooledQuery("q", "?", {}), status, judgments, human), labeller.counts


def sources(example):
    return [(passage.passage_id, passage.source) for passage in example.positives]


# Scores


def test_positives_are_near_the_best_and_negatives_well_below_the_worst_positive():
    scores = judged(d=0.1, a=1.0, c=0.6, b=0.85, e=-2.0)

    # b is within 0.2 of the best; c lies between (0.85 - 0.3 = 0.55 is the limit) and is neither.
    assert split(scores, **LOOSE) == ("ab", "de")


def test_no_more_positives_than_allowed_and_the_next_best_is_no_negative_for_it():
    scores = judged(a=1.0, b=0.99, c=0.98, d=0.0)

    assert split(scores, **LOOSE) == ("ab", "d")


def test_three_positives_are_taken_of_scores_unless_told_otherwise():
    scores = judged(a=1.0, b=0.99, c=0.98, d=0.97, e=0.0)

    assert split(scores) == ("abc", "e")
    assert split(scores, max_positives=4) == ("abcd", "e")


def test_hardest_negatives_first_and_no_more_than_allowed():
    scores = judged(a=3.0, b=1.0, c=2.0, d=0.0)

    assert split(scores, **LOOSE, max_negatives=2) == ("a", "cb")


def test_a_rank_window_leaves_the_most_likely_false_negatives_out():
    scores = judged(a=3.0, b=2.0, c=1.0, d=0.0)

    assert split(scores, **LOOSE, first_negative_rank=4) == ("a", "d")
    assert split(scores, **LOOSE, last_negative_rank=3) == ("a", "bc")
    assert split(scores, **LOOSE, first_negative_rank=3, last_negative_rank=3) == ("a", "c")


def test_a_floor_can_leave_a_query_without_a_positive():
    scores = judged(a=0.4, b=0.1)

    assert split(scores, **LOOSE, min_score=0.5) == ("", "")
    assert split(scores, **LOOSE, min_score=0.4) == ("a", "b")


def test_equal_scores_are_ordered_by_id_and_a_margin_of_zero_keeps_positives_out_of_the_negatives():
    scores = judged(c=1.0, a=1.0, b=1.0)

    assert split(scores, max_positives=1, max_drop=0, negative_margin=0) == ("a", "bc")


def test_passages_without_a_score_are_neither():
    assert split([Judgment("a"), *judged(b=1.0, c=0.0)], **LOOSE) == ("b", "c")
    assert split([Judgment("a")], **LOOSE) == ("", "")
    assert split([], **LOOSE) == ("", "")


def test_the_scores_and_their_source_go_into_the_example():
    result = split_pool(judged(a=1.0, b=0.0), LabelConfig(**LOOSE))

    assert (result.positives[0].utility_score, result.positives[0].source) == (1.0, "llm")
    assert (result.negatives[0].utility_score, result.negatives[0].source) == (0.0, "llm")


# Verdicts


def test_all_that_the_judge_called_useful_is_positive_and_the_rest_negative_relevant_ones_first():
    verdicts = chosen(a="-", b="u", c="r", d="u", e="u", f="u", g="-")

    assert split(verdicts) == ("bdef", "cag")


def test_a_cap_on_positives_makes_no_negative_of_a_useful_passage():
    assert split(chosen(a="u", b="u", c="-"), max_positives=1) == ("a", "c")


def test_useful_passages_that_were_scored_as_well_come_best_score_first():
    verdicts = [Judgment("a", is_useful=True, utility_score=0.1), Judgment("b", is_useful=True, utility_score=0.9)]

    assert split(verdicts, positives="useful") == ("ba", "")


def test_relevant_passages_are_positive_where_the_policy_says_so():
    assert split(chosen(a="-", b="u", c="r"), positives="relevant") == ("bc", "a")


def test_relevant_but_useless_passages_can_be_left_out():
    assert split(chosen(a="-", b="u", c="r"), leave_out_relevant=True) == ("b", "a")


def test_what_was_not_judged_for_use_is_no_negative_unless_it_was_not_even_relevant():
    verdicts = [Judgment("a", is_useful=True), Judgment("b"), Judgment("c", is_relevant=False)]

    assert split(verdicts) == ("a", "c")


def test_negatives_after_a_verdict_are_ordered_by_their_best_rank_in_a_list_then_by_id():
    passages = {"a": PooledPassage(9), "b": PooledPassage(2), "c": PooledPassage(2), "d": PooledPassage(None)}

    assert split(chosen(z="u", a="-", c="-", b="-", d="-", e="r"), passages) == ("z", "ebcad")
    assert split(chosen(z="u", a="-", c="-", b="-", d="-"), passages, max_negatives=2) == ("z", "bc")


def test_a_query_for_which_nothing_is_useful_has_no_positive_and_no_negatives():
    assert split(chosen(a="-", b="r")) == ("", "")


# Rankings


@pytest.mark.parametrize(
    ("num_ranked", "percent", "positives"), [(20, 10, 2), (19, 10, 1), (3, 10, 1), (10, 30, 3), (4, 100, 4)]
)
def test_the_top_percent_of_a_ranking_is_positive_rounded_down_and_at_least_one(num_ranked, percent, positives):
    names = "abcdefghijklmnopqrst"[:num_ranked]

    assert split(ordered(names), top_percent=percent)[0] == names[:positives]


def test_what_is_below_the_cut_or_was_left_out_of_the_ranking_is_negative():
    assert split(ordered("dcb", relevant="a", rest="ef")) == ("d", "abcef")


def test_a_cap_within_the_top_percent_makes_no_negative_of_its_other_passages():
    assert split(ordered("abcd", rest="e"), top_percent=50, max_positives=1) == ("a", "cde")


def test_a_ranking_goes_before_verdicts_and_verdicts_before_scores():
    everything = [
        Judgment("a", is_useful=False, utility_rank=1, utility_score=0.0),
        Judgment("b", is_useful=True, utility_rank=2, utility_score=1.0),
    ]
    without_ranks = [Judgment(j.passage_id, is_useful=j.is_useful, utility_score=j.utility_score) for j in everything]

    assert split(everything) == ("a", "b")
    assert split(without_ranks) == ("b", "a")
    assert split(everything, positives="score") == ("b", "a")


def test_evidence_that_the_judge_does_not_give_makes_no_labels():
    assert split(judged(a=1.0), positives="useful") == ("", "")
    assert split(ordered("", rest="ab")) == ("", "")


# People


@pytest.mark.parametrize("evidence", [judged(a=1.0, b=0.0, c=-1.0), chosen(a="u", b="r", c="-"), ordered("abc")])
def test_a_human_positive_that_the_judge_rejects_is_a_positive_by_people_and_no_hard_negative(evidence):
    example, counts = label(evidence, human="b")

    assert sources(example) == [("a", "llm"), ("b", "human")]
    assert [n.passage_id for n in example.negatives] == ["c"]
    assert counts.num_kept_out == 1


def test_the_judges_positives_come_first_and_keep_their_order_then_those_that_only_people_named():
    example, counts = label(judged(a=1.0, b=0.9, c=0.8, d=0.0), human="zdb")

    assert sources(example) == [("a", "llm"), ("b", "both"), ("c", "llm"), ("z", "human"), ("d", "human")]
    assert [p.utility_score for p in example.positives] == [1.0, 0.9, 0.8, None, 0.0]
    assert counts.sources == {"llm": 2, "both": 1, "human": 2}


def test_people_change_nothing_about_the_positives_of_the_judge():
    evidence = judged(a=1.0, b=0.95, c=0.9, d=0.5, e=0.0)

    with_people, _ = label(evidence, human="cz", **LOOSE)
    without, _ = label(evidence, **LOOSE)

    assert sources(without) == [("a", "llm"), ("b", "llm")]
    assert sources(with_people) == [("a", "llm"), ("b", "llm"), ("c", "human"), ("z", "human")]
    assert with_people.negatives == without.negatives
    assert split(evidence, human="cz", **LOOSE) == split(evidence, **LOOSE) == ("ab", "de")


def test_where_the_judge_finds_nothing_useful_what_it_rejected_is_negative_for_the_human_positive():
    example, counts = label(chosen(a="-", b="r", c="-"), human="c")

    assert sources(example) == [("c", "human")]
    assert [n.passage_id for n in example.negatives] == ["b", "a"]
    assert (counts.num_examples, counts.num_only_human, counts.num_positives) == (1, 1, {})


def test_where_no_score_reaches_the_floor_negatives_lie_a_margin_below_it_in_the_window_of_ranks():
    scores = judged(a=0.9, b=0.8, c=0.6, d=0.5, e=0.1, f=0.0)

    # The floor of 1.0 less the margin of 0.3 is 0.7, and rank 1 is never a negative.
    example, _ = label(scores, human="d", min_score=1.0, last_negative_rank=5)

    assert sources(example) == [("d", "human")]
    assert [n.passage_id for n in example.negatives] == ["c", "e"]


@pytest.mark.parametrize("status", ["malformed", "engine_error", "not_judged"])
def test_a_query_that_was_not_judged_has_its_human_positives_and_no_hard_negative(status):
    example, counts = label(judged(a=1.0, b=0.0), human="b", status=status)

    assert (sources(example), example.negatives) == ([("b", "human")], ())
    assert example.positives[0].utility_score is None
    assert (counts.num_only_human, counts.num_without_negatives, counts.left_out) == (1, 1, {})


def test_no_passage_is_both_a_positive_and_a_negative():
    example, _ = label(judged(a=1.0, b=0.0, c=-1.0, d=-2.0), human="abcz", max_positives=1)

    positives, negatives = ({p.passage_id for p in side} for side in (example.positives, example.negatives))
    assert (positives, negatives) == (set("abcz"), set("d"))


# Counts


def test_only_ok_is_a_label_and_the_rest_is_counted_by_reason():
    labeller = Labeller(LabelConfig(**LOOSE, min_score=-1.0))
    judgments = {
        "ok": judged(a=1.0, b=0.0),
        "too_long": judged(a=1.0),
        "engine_error": [],
        "not_judged": [],
    }

    examples = {status: labeller.label(PooledQuery("q", "?", {}), status, of) for status, of in judgments.items()}
    labeller.label(PooledQuery("low", "?", {}), "ok", judged(a=-9.0))

    assert [status for status, example in examples.items() if example is not None] == ["ok"]
    assert labeller.counts.left_out == {"too_long": 1, "engine_error": 1, "not_judged": 1, "no_positive": 1}
    assert labeller.counts.num_examples == 1


def test_queries_without_negatives_are_kept_and_counted():
    labeller = Labeller(LabelConfig(**LOOSE))

    for judgments in (judged(a=1.0, b=0.9), judged(a=1.0, b=0.0)):
        labeller.label(PooledQuery("q", "?", {}), "ok", judgments)

    assert labeller.counts.num_without_negatives == 1
    assert labeller.counts.num_positives == {1: 1, 2: 1}
    assert labeller.counts.num_negatives == 1


# Settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_positives": 0}, "max_positives"),
        ({"max_drop": -0.1}, "max_drop"),
        ({"first_negative_rank": 1}, "first_negative_rank"),
        ({"min_score": "best"}, "min_score"),
        ({"top_percent": 0}, "top_percent"),
        ({"positives": "useful", "negative_margin": 0.5}, "negative_margin has no effect with positives: useful"),
        ({"positives": "rank", "first_negative_rank": 3}, "first_negative_rank has no effect"),
        ({"positives": "score", "top_percent": 20}, "top_percent has no effect"),
        ({"positives": "relevant", "leave_out_relevant": True}, "leave_out_relevant has no effect"),
        ({"calibration_queries": 50}, "min_score: calibrated"),
        ({"positives": "useful", "last_negative_rank": 3}, "last_negative_rank has no effect"),
        ({"first_negative_rank": 5, "last_negative_rank": 4}, "last_negative_rank=4 comes before"),
    ],
)
def test_settings_that_make_no_sense_or_no_difference_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        build_config(LabelConfig, settings)


def test_a_threshold_is_a_number_or_to_be_calibrated():
    assert build_config(LabelConfig, {"min_score": 0.25}).min_score == 0.25
    assert build_config(LabelConfig, {"min_score": "calibrated", "calibration_queries": 5}).min_score == "calibrated"
