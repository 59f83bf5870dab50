"""Two judges on the same pairs."""

import pyarrow as pa
import pytest

from winnow import schema
from winnow.audit.judges import compare_judges, second_opinion
from winnow.audit.pairs import Reading
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex


def index(rows):
    table = [
        {"query_id": q, "passage_id": p, "pool_id": "0", "judge_id": "b", "utility_score": score}
        for q, scores in rows.items()
        for p, score in scores.items()
    ]
    return JudgmentIndex(pa.Table.from_pylist(table, schema=schema.JUDGMENTS).select(JUDGMENT_COLUMNS))


POSITIVE = Reading("score", lambda order, found: {j.passage_id for j in found if j.utility_score > 0}, 1, seed=1)


def test_only_pairs_that_both_have_judged_are_compared(judged):
    """q2 is unknown to the other judge, and p3 of q1; p9 is unknown to the first."""
    pairs = judged({"q1": "JJ.", "q2": "J."})

    opinion = second_opinion(pairs, index({"q1": {"p2": 1.0, "p1": -1.0, "p9": 1.0}}), POSITIVE)
    found = compare_judges(opinion, samples=100, seed=1)

    assert (found.num_queries, found.num_pairs) == (1, 2)
    assert (found.both, found.only_first, found.only_second, found.neither) == (1, 1, 0, 0)
    assert opinion.labels(["q1", "q2"]) == {"q1": {"p1": False, "p2": True}}


def test_opposite_orders_have_a_rho_of_minus_one(judged):
    pairs = judged({"q1": "J..", "q2": ".J."})
    scores = {"p1": -3.0, "p2": -2.0, "p3": 1.0}

    found = compare_judges(second_opinion(pairs, index({"q1": scores, "q2": scores}), POSITIVE), samples=100, seed=1)

    assert found.spearman.value == pytest.approx(-1.0)
    assert (found.both, found.only_first, found.only_second, found.neither) == (0, 2, 2, 2)
    assert found.kappa.value == pytest.approx(-0.5)


def test_judges_with_nothing_in_common_have_no_agreement(judged):
    found = compare_judges(second_opinion(judged({"q1": "J."}), index({}), POSITIVE), samples=100, seed=1)

    assert (found.num_queries, found.num_pairs, found.kappa.value, found.spearman.value) == (0, 0, None, None)
