"""Hard negatives from an encoder's ranking."""

from dataclasses import replace

import pytest

from winnow.config import build_config
from winnow.errors import ConfigError
from winnow.labels.mining import MiningConfig, MiningCounts, mine_negatives
from winnow.records import LabelledPassage, TrainingExample

RANKED = [("a", 0.9), ("P", 0.8), ("b", 0.7), ("H", 0.6), ("c", 0.5), ("d", 0.4)]
SCORES = {"P": 0.8, "H": 0.6}
EXAMPLE = TrainingExample(
    "q",
    "a question",
    (LabelledPassage("P", "llm", utility_score=2.0), LabelledPassage("H", "human")),
    (LabelledPassage("c", "llm", utility_score=-1.0), LabelledPassage("z", "llm")),
)


def mined(ranked=RANKED, scores=SCORES, example=EXAMPLE, **settings) -> str:
    found = mine_negatives(example, ranked, scores, MiningConfig(**settings))
    return "".join(passage.passage_id for passage in found.negatives)


def test_the_best_ranked_passages_replace_the_negatives_hardest_first_and_never_hold_a_positive():
    found = mine_negatives(EXAMPLE, RANKED, SCORES, MiningConfig(margin=None))

    assert [(n.passage_id, n.source) for n in found.negatives] == [(name, "mined") for name in "abcd"]
    assert (found.query_id, found.query, found.positives) == (EXAMPLE.query_id, EXAMPLE.query, EXAMPLE.positives)


def test_what_is_withheld_is_taken_out_before_ranks_are_counted_like_a_positive():
    withholding = replace(EXAMPLE, withheld=(LabelledPassage("a", "llm"), LabelledPassage("c", "human")))

    assert mined(margin=None, example=withholding) == "bd"
    assert mined(margin=None, example=withholding, first_rank=2, last_rank=2) == "d"


def test_what_scores_nearer_than_the_margin_to_the_best_positive_is_left_out():
    assert mined() == "bcd"
    assert mined(margin=0.2) == "cd"
    assert mined(margin=0.5) == ""


def test_a_score_exactly_at_the_margin_is_far_enough():
    assert mined([("a", 1.0), ("b", 0.5)], {"P": 1.0}, margin=0.5) == "b"
    assert mined([("a", 1.0), ("b", 0.5)], {"P": 1.0}) == "ab"


def test_ranks_are_counted_without_the_positives():
    assert mined(margin=None, first_rank=2, last_rank=3) == "bc"
    assert mined(margin=None, first_rank=5) == ""


def test_no_more_than_wanted_are_taken_from_those_that_are_far_enough():
    assert mined(max_negatives=2) == "bc"


def test_without_a_scored_positive_nothing_is_known_to_be_far_enough():
    assert mined(scores={}) == ""
    assert mined(scores={"another query's": 9.0}) == ""
    assert mined(scores={}, margin=None) == "abcd"


def test_an_empty_ranking_leaves_no_negatives():
    assert mined([]) == ""


def test_what_the_judge_scored_keeps_its_score():
    found = mine_negatives(EXAMPLE, RANKED, SCORES, MiningConfig())

    assert {n.passage_id: n.utility_score for n in found.negatives} == {"b": None, "c": -1.0, "d": None}


def test_what_was_mined_too_close_and_without_is_counted_over_examples():
    counts = MiningCounts()

    for ranked in (RANKED, RANKED[:2], []):
        mine_negatives(EXAMPLE, ranked, SCORES, MiningConfig(max_negatives=2), counts)

    assert counts == MiningCounts(num_mined=2, num_too_close=2, num_without=2)


@pytest.mark.parametrize(
    "settings", [{"first_rank": 0}, {"first_rank": 5, "last_rank": 4}, {"margin": -0.1}, {"max_negatives": 0}]
)
def test_windows_and_margins_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings)) if len(settings) == 1 else "last_rank=4"):
        build_config(MiningConfig, settings)


def test_the_hardest_passage_alone_can_be_asked_for():
    assert mined(margin=None, first_rank=1, last_rank=1) == mined(margin=None, max_negatives=1) == "a"
