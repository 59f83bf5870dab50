"""From verdicts, rankings and scores to the judge's positives, hard negatives, and what it leaves open."""

import pytest

from winnow.config import build_config
from winnow.errors import ConfigError
from winnow.labels.config import LabelConfig
from winnow.labels.from_judgments import split_pool
from winnow.pooling.order import PoolOrder
from winnow.records import Judgment

LOOSE = {"max_positives": 2, "max_drop": 0.2, "negative_margin": 0.3}
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
BY_LETTER = {name: rank for rank, name in enumerate(ALPHABET, start=1)}


def judged(**scores):
    return [Judgment(name, utility_score=score) for name, score in scores.items()]


def chosen(**verdicts):
    """``r``: relevant, ``u``: relevant and useful, ``-``: neither."""
    return [Judgment(name, is_relevant=what in "ru", is_useful=what == "u") for name, what in verdicts.items()]


def ordered(names: str, *, relevant: str = "", rest: str = "") -> list[Judgment]:
    """A utility ranking; ``relevant`` was left out of it, ``rest`` is not even relevant."""
    ranking = [Judgment(name, is_relevant=True, utility_rank=rank) for rank, name in enumerate(names, start=1)]
    return ranking + [Judgment(n, is_relevant=True) for n in relevant] + [Judgment(n, is_relevant=False) for n in rest]


def split(judgments, evidence="score", *, ranks=BY_LETTER, query_id="q", seed=1, **settings):
    """Positives, negatives and what is withheld, a letter per passage. The lists of the pool have them by letter."""
    result = split_pool(judgments, evidence, LabelConfig(**settings), PoolOrder(query_id, ranks, seed))
    positives, negatives, withheld = ("".join(p.passage_id for p in side) for side in result)
    return positives, negatives, "".join(sorted(withheld))


# Scores


@pytest.mark.parametrize(
    ("scores", "settings", "expected"),
    [
        # b is within 0.2 of the best; c lies between (0.85 - 0.3 = 0.55 is the limit) and is neither.
        ({"d": 0.1, "a": 1.0, "c": 0.6, "b": 0.85, "e": -2.0}, LOOSE, ("ab", "de", "c")),
        # What the cap cuts off is withheld, not a negative: .98 beside .99.
        ({"a": 1.0, "b": 0.99, "c": 0.98, "d": 0.0}, LOOSE, ("ab", "d", "c")),
        # Three are taken of scores unless told otherwise.
        ({"a": 1.0, "b": 0.99, "c": 0.98, "d": 0.97, "e": 0.0}, {}, ("abc", "e", "d")),
        ({"a": 1.0, "b": 0.99, "c": 0.98, "d": 0.97, "e": 0.0}, {"max_positives": 4}, ("abcd", "e", "")),
        # Hardest first; those beyond the cap are nobody's.
        ({"a": 3.0, "b": 1.0, "c": 2.0, "d": 0.0}, {**LOOSE, "max_negatives": 2}, ("a", "cb", "")),
        # Before the window of ranks lie the most likely false negatives, beyond it what is too easy.
        ({"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0}, {**LOOSE, "first_negative_rank": 4}, ("a", "d", "bc")),
        ({"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0}, {**LOOSE, "last_negative_rank": 3}, ("a", "bc", "")),
        (
            {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0},
            {**LOOSE, "first_negative_rank": 3, "last_negative_rank": 3},
            ("a", "c", "b"),
        ),
        # At the margin is far enough.
        ({"a": 1.0, "b": 0.5}, {"negative_margin": 0.5}, ("a", "b", "")),
        # Beyond the window, but too near to the positive to be a negative.
        ({"a": 1.0, "b": 0.75, "c": 0.74}, {**LOOSE, "last_negative_rank": 2}, ("a", "", "bc")),
        # A floor can leave a query without a positive: negatives then lie a margin below the floor.
        ({"a": 0.4, "b": 0.1}, {**LOOSE, "min_score": 0.5}, ("", "b", "a")),
        ({"a": 0.4, "b": 0.1}, {**LOOSE, "min_score": 0.4}, ("a", "b", "")),
        (
            {"a": 0.9, "b": 0.8, "c": 0.6, "d": 0.5, "e": 0.1, "f": 0.0},
            {"min_score": 1.0, "last_negative_rank": 5},
            ("", "cde", "ab"),
        ),
        # Equal scores are one class: the cap makes no negative of the others, also at a margin of 0.
        (
            {"c": 1.0, "a": 1.0, "b": 1.0, "d": 0.5},
            {"max_positives": 1, "max_drop": 0, "negative_margin": 0},
            ("a", "d", "bc"),
        ),
        # Without a score nothing is known.
        ({"a": None, "b": 1.0, "c": 0.0}, LOOSE, ("b", "c", "a")),
        ({"a": None}, LOOSE, ("", "", "a")),
        ({}, LOOSE, ("", "", "")),
    ],
)
def test_scores_make_positives_near_the_best_negatives_well_below_and_withhold_the_rest(scores, settings, expected):
    assert split(judged(**scores), **settings) == expected


def test_the_scores_and_their_source_go_into_the_example():
    result = split_pool(judged(a=1.0, b=0.9, c=0.0), "score", LabelConfig(max_positives=1), PoolOrder("q", {}, 1))

    labels = [(p.passage_id, p.source, p.utility_score) for side in result for p in side]
    assert labels == [("a", "llm", 1.0), ("c", "llm", 0.0), ("b", "llm", 0.9)]


# Verdicts

UNSURE = [Judgment("a", is_useful=True), Judgment("b"), Judgment("c", is_relevant=False)]
SCORED = [Judgment("a", is_useful=True, utility_score=0.1), Judgment("b", is_useful=True, utility_score=0.9)]


@pytest.mark.parametrize(
    ("judgments", "settings", "expected"),
    [
        # All that the judge called useful is positive, the rest negative, relevant ones first.
        (chosen(a="-", b="u", c="r", d="u", e="u", f="u", g="-"), {}, ("bdef", "cag", "")),
        # A cap makes no negative of a useful passage.
        (chosen(a="u", b="u", c="-"), {"max_positives": 1}, ("a", "c", "b")),
        # Useful passages that were scored as well come best score first.
        (SCORED, {"positives": "useful"}, ("ba", "", "")),
        (chosen(a="-", b="u", c="r"), {"positives": "relevant"}, ("bc", "a", "")),
        # Relevant but useless passages can be left out: they are withheld.
        (chosen(a="-", b="u", c="r"), {"leave_out_relevant": True}, ("b", "a", "c")),
        # What was not judged for use is open, unless it was not even relevant.
        (UNSURE, {}, ("a", "c", "b")),
        # Nothing useful: no positive, and all the same a pool of negatives, for the positives of people.
        (chosen(a="-", b="r"), {}, ("", "ba", "")),
        (chosen(a="-", b="-"), {}, ("", "ab", "")),
    ],
)
def test_verdicts_make_positives_negatives_and_what_is_open(judgments, settings, expected):
    evidence = settings.get("positives", "useful")

    assert split(judgments, evidence, **settings) == expected


def test_negatives_after_a_verdict_are_ordered_by_their_best_rank_in_a_list_those_of_no_list_last():
    ranks = {"a": 9, "b": 2, "c": 3, "d": None}

    assert split(chosen(z="u", a="-", c="-", b="-", d="-", e="r"), "useful", ranks=ranks)[:2] == ("z", "ebcad")
    assert split(chosen(z="u", a="-", c="-", b="-", d="-"), "useful", ranks=ranks, max_negatives=2)[:2] == ("z", "bc")


# Rankings


@pytest.mark.parametrize(
    ("num_ranked", "percent", "positives"),
    [(20, 10, 2), (19, 10, 1), (3, 10, 1), (3, 66.6, 1), (10, 30, 3), (4, 100, 4)],
)
def test_the_top_percent_of_a_ranking_is_positive_rounded_down_and_at_least_one(num_ranked, percent, positives):
    names = ALPHABET[:num_ranked]

    assert split(ordered(names), "rank", top_percent=percent)[0] == names[:positives]


@pytest.mark.parametrize(
    ("judgments", "settings", "expected"),
    [
        # What is below the cut or was left out of the ranking is negative.
        (ordered("dcb", relevant="a", rest="ef"), {}, ("d", "abcef", "")),
        (ordered("dcb", relevant="a", rest="ef"), {"leave_out_relevant": True}, ("d", "ef", "abc")),
        # A cap within the top percent makes no negative of its other passages.
        (ordered("abcd", rest="e"), {"top_percent": 50, "max_positives": 1}, ("a", "cde", "b")),
        # A judge of rankings that found nothing relevant has said so: as a judge of selections does.
        (ordered("", rest="ab"), {}, ("", "ab", "")),
    ],
)
def test_rankings_make_positives_of_their_top_and_negatives_of_all_else(judgments, settings, expected):
    assert split(judgments, "rank", **settings) == expected


# Equally good


@pytest.mark.parametrize(
    ("evidence", "judgments"),
    [("useful", chosen(a="u", z="u", b="-")), ("relevant", chosen(a="r", z="u", b="-")), ("score", judged(a=1, z=1))],
)
def test_of_equally_good_passages_the_one_that_the_lists_had_higher_is_the_best(evidence, judgments):
    ranks = {"a": 180, "z": 1, "b": 2}

    assert split(judgments, evidence, ranks=ranks)[0] == "za"
    assert split(judgments, evidence, ranks=ranks, max_positives=1)[::2] == ("z", "a")


@pytest.mark.parametrize("evidence", ["useful", "score"])
@pytest.mark.parametrize("ranks", [{"a": 3, "z": 3}, {"a": None, "z": None}, {}])
def test_at_equal_ranks_a_draw_by_seed_and_query_decides_not_the_id_nor_the_order_of_the_judgments(evidence, ranks):
    judgments = chosen(a="u", z="u") if evidence == "useful" else judged(a=1.0, z=1.0)
    draws = [(f"q{i}", seed) for i in range(60) for seed in (1, 2)]

    found = [split(judgments, evidence, ranks=ranks, query_id=query, seed=seed)[0] for query, seed in draws]

    assert found == [split(judgments[::-1], evidence, ranks=ranks, query_id=q, seed=seed)[0] for q, seed in draws]
    assert set(found[::2]) == set(found[1::2]) == {"az", "za"}
    # 60 of 120 are expected; 5 standard deviations are 27.
    assert 33 < found.count("az") < 87
    assert found[::2] != found[1::2]


# Settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_positives": 0}, "max_positives"),
        ({"max_drop": -0.1}, "max_drop"),
        ({"first_negative_rank": 1}, "first_negative_rank"),
        ({"min_score": "best"}, "min_score"),
        ({"top_percent": 0}, "top_percent"),
        ({"top_percent": 100.5}, "top_percent"),
        ({"negative_margin": -0.1}, "negative_margin"),
        ({"max_negatives": -1}, "max_negatives"),
        ({"min_score": "calibrated", "calibration_queries": 0}, "calibration_queries"),
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


@pytest.mark.parametrize(
    "settings",
    [
        {"max_positives": 1, "max_negatives": 0},
        {"top_percent": 0.5},
        {"max_drop": 0, "negative_margin": 0, "first_negative_rank": 2, "last_negative_rank": 2},
        {"min_score": "calibrated", "calibration_queries": 1},
    ],
)
def test_the_smallest_settings_that_make_sense_are_taken(settings):
    assert build_config(LabelConfig, settings).model_dump(include=set(settings)) == settings


def test_a_threshold_is_a_number_or_to_be_calibrated():
    assert build_config(LabelConfig, {"min_score": 0.25}).min_score == 0.25
    assert build_config(LabelConfig, {"min_score": "calibrated", "calibration_queries": 5}).min_score == "calibrated"
