"""The threshold with the best F1, against trying every one."""

import random

import pytest

from winnow.errors import DataError
from winnow.labels.calibration import calibrate, calibrate_on, draw_queries
from winnow.labels.pools import PooledPassage, PooledQuery
from winnow.records import Judgment


def measured_at(threshold, scores, positives) -> tuple[float, float, float]:
    chosen = {number for number, score in enumerate(scores) if score >= threshold}
    wanted = {number for number, positive in enumerate(positives) if positive}
    right = len(chosen & wanted)
    precision, recall = right / len(chosen), right / len(wanted)
    return (2 * precision * recall / (precision + recall) if right else 0.0), precision, recall


@pytest.mark.parametrize("seed", range(30))
def test_equals_trying_every_score_as_threshold(seed):
    draw = random.Random(seed)
    # Few distinct values, so that ties are common.
    scores = [draw.randint(-4, 4) / 4 for _ in range(draw.randint(1, 40))]
    positives = [draw.random() < 0.3 for _ in scores]
    positives[draw.randrange(len(scores))] = True

    found = calibrate(scores, positives)

    best = max(measured_at(threshold, scores, positives)[0] for threshold in scores)
    highest = max(t for t in scores if measured_at(t, scores, positives)[0] == pytest.approx(best))
    assert found.threshold == highest
    assert (found.f1, found.precision, found.recall) == pytest.approx(measured_at(highest, scores, positives))


def test_one_threshold_for_all_pairs_worked_out_by_hand():
    # At 0.6: 2 right of 3 chosen, 2 of 3 wanted. At 0.8: 1 of 1, 1 of 3. At 0.1: 3 of 6.
    scores, positives = [0.8, 0.6, 0.7, 0.3, 0.2, 0.1], [True, True, False, False, False, True]

    found = calibrate(scores, positives)

    assert (found.threshold, found.precision, found.recall) == (0.6, pytest.approx(2 / 3), pytest.approx(2 / 3))


def pooled(query_id: str, **labels: int | None) -> PooledQuery:
    return PooledQuery(query_id, "?", {name: PooledPassage(1, label) for name, label in labels.items()})


def test_queries_are_drawn_by_seed_among_those_with_a_human_positive_in_any_order():
    pools = [pooled(f"q{number}", a=1 if number % 2 else 0, b=None) for number in range(40)]

    drawn = draw_queries(pools, 5, relevant_from=1, seed=1)

    assert draw_queries(pools[::-1], 5, relevant_from=1, seed=1) == drawn
    assert draw_queries(pools, 5, relevant_from=1, seed=2) != drawn
    assert len(drawn) == 5
    assert all(int(name[1:]) % 2 for name in drawn)
    assert set(drawn.values()) == {frozenset("a")}
    assert len(draw_queries(pools, 500, relevant_from=1, seed=1)) == 20


def test_only_scored_passages_of_the_drawn_queries_count():
    judgments = {
        "q1": [Judgment("a", utility_score=0.5), Judgment("b", utility_score=0.1), Judgment("c")],
        "q2": [Judgment("a", utility_score=9.0)],
    }

    found = calibrate_on({"q1": frozenset("ac")}, judgments.__getitem__)

    assert (found.threshold, found.f1) == (0.5, 1.0)


@pytest.mark.parametrize("queries", [{}, {"q1": frozenset("c")}])
def test_without_a_scored_human_positive_the_error_says_what_to_do(queries):
    judgments = {"q1": [Judgment("a", utility_score=0.5), Judgment("c")]}

    with pytest.raises(DataError, match=r"data\.train\.qrels.*pool\.add_human_positives.*number"):
        calibrate_on(queries, judgments.__getitem__)
