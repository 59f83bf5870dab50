"""From scores to positives and hard negatives."""

import pytest

from winnow.labels.config import LabelConfig
from winnow.labels.from_judgments import label_queries, split_pool
from winnow.records import Judgment, Query

LOOSE = {"max_positives": 2, "max_drop": 0.2, "negative_margin": 0.3}


def judged(**scores):
    return [Judgment(name, utility_score=score) for name, score in scores.items()]


def split(judgments, **settings):
    positives, negatives = split_pool(judgments, LabelConfig(**settings))
    return [p.passage_id for p in positives], [n.passage_id for n in negatives]


def test_positives_are_near_the_best_and_negatives_well_below_the_worst_positive():
    scores = judged(d=0.1, a=1.0, c=0.6, b=0.85, e=-2.0)

    # b is within 0.2 of the best; c lies between (0.85 - 0.3 = 0.55 is the limit) and is neither.
    assert split(scores, **LOOSE) == (["a", "b"], ["d", "e"])


def test_no_more_positives_than_allowed_and_the_next_best_is_no_negative_for_it():
    scores = judged(a=1.0, b=0.99, c=0.98, d=0.0)

    assert split(scores, **LOOSE) == (["a", "b"], ["d"])


def test_hardest_negatives_first_and_no_more_than_allowed():
    scores = judged(a=3.0, b=1.0, c=2.0, d=0.0)

    assert split(scores, **LOOSE, max_negatives=2) == (["a"], ["c", "b"])


def test_a_rank_window_leaves_the_most_likely_false_negatives_out():
    scores = judged(a=3.0, b=2.0, c=1.0, d=0.0)

    assert split(scores, **LOOSE, first_negative_rank=4) == (["a"], ["d"])


def test_a_floor_can_leave_a_query_without_a_positive():
    scores = judged(a=0.4, b=0.1)

    assert split(scores, **LOOSE, min_score=0.5) == ([], [])
    assert split(scores, **LOOSE, min_score=0.4) == (["a"], ["b"])


def test_equal_scores_are_ordered_by_id_and_a_margin_of_zero_keeps_positives_out_of_the_negatives():
    scores = judged(c=1.0, a=1.0, b=1.0)

    assert split(scores, max_positives=1, max_drop=0, negative_margin=0) == (["a"], ["b", "c"])


def test_passages_without_a_score_are_neither():
    assert split([Judgment("a"), *judged(b=1.0, c=0.0)], **LOOSE) == (["b"], ["c"])
    assert split([Judgment("a")], **LOOSE) == ([], [])
    assert split([], **LOOSE) == ([], [])


def test_the_scores_and_their_source_go_into_the_example():
    positives, negatives = split_pool(judged(a=1.0, b=0.0), LabelConfig(**LOOSE))

    assert (positives[0].utility_score, positives[0].source) == (1.0, "llm")
    assert (negatives[0].utility_score, negatives[0].source) == (0.0, "llm")


def test_only_ok_is_a_label_and_the_rest_is_counted_by_reason():
    queries = [Query(f"q{i}", "?") for i in range(5)]
    statuses = {"q0": "ok", "q1": "too_long", "q2": "engine_error", "q3": "ok"}
    judgments = {"q0": judged(a=1.0, b=0.0), "q1": judged(a=1.0), "q3": judged(a=-9.0)}

    labelling = label_queries(queries, statuses, judgments, LabelConfig(**LOOSE, min_score=-1.0))

    assert [example.query_id for example in labelling.examples] == ["q0"]
    assert labelling.left_out == {"too_long": 1, "engine_error": 1, "no_positive": 1, "not_judged": 1}


def test_queries_without_negatives_are_kept_and_counted():
    queries = [Query("q0", "?"), Query("q1", "?")]
    judgments = {"q0": judged(a=1.0, b=0.9), "q1": judged(a=1.0, b=0.0)}

    labelling = label_queries(queries, {"q0": "ok", "q1": "ok"}, judgments, LabelConfig(**LOOSE))

    assert labelling.num_without_negatives == 1
    assert labelling.num_positives == {1: 1, 2: 1}


@pytest.mark.parametrize("setting", [{"max_positives": 0}, {"max_drop": -0.1}, {"first_negative_rank": 1}])
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(ValueError):
        LabelConfig(**setting)
