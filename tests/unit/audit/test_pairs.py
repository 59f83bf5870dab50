"""From the datasets of pools and judgments to columns of pairs."""

import math

import pyarrow as pa
import pytest

from winnow import schema
from winnow.audit.pairs import Reading, collect_pairs, evidence_of, score_of
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex
from winnow.pooling.order import PoolOrder
from winnow.records import Judgment

KEY = {"pool_id": "0", "judge_id": "j"}


def judgments(*rows):
    blank = dict.fromkeys(["is_relevant", "is_useful", "utility_rank", "utility_score", "position"])
    named = [{"query_id": q, "passage_id": p, **KEY, **blank, **fields} for q, p, fields in rows]
    return JudgmentIndex(pa.Table.from_pylist(named, schema=schema.JUDGMENTS).select(JUDGMENT_COLUMNS))


def pools(**passages):
    rows = [
        {
            "query_id": query_id,
            "passages": [
                {"passage_id": p, "text": text, "human_label": label, "found_by": [{"rank": r} for r in (7, 3)]}
                if p != "alone"
                else {"passage_id": p, "text": text, "human_label": label, "found_by": []}
                for p, text, label in candidates
            ],
        }
        for query_id, candidates in passages.items()
    ]
    return pa.Table.from_pylist(rows).to_batches(max_chunksize=1)


def best(order, evidence):
    return {max(evidence, key=lambda judgment: judgment.utility_score).passage_id} if evidence else set()


def reading(positives_of=best, *, evidence="score", relevant_from=1):
    return Reading(evidence, positives_of, relevant_from, seed=1)


def test_pairs_hold_both_labels_the_position_and_the_length():
    index = judgments(("q1", "a", {"utility_score": 0.5}), ("q1", "b", {"utility_score": 0.9}))

    pairs = collect_pairs(pools(q1=[("b", " three  little words ", None), ("a", "one", 2)]), {"q1"}, index, reading())

    assert pairs.query_ids == ("q1",)
    assert pairs.passage_id_N.tolist() == ["b", "a"]
    assert pairs.position_N.tolist() == [1, 2]
    assert pairs.num_words_N.tolist() == [3, 1]
    assert pairs.is_positive_N.tolist() == [True, False]
    assert pairs.is_human_N.tolist() == [False, True]
    assert pairs.score_N.tolist() == [0.9, 0.5]


def test_the_position_is_the_one_in_the_prompt_where_a_pool_took_several():
    index = judgments(*[("q1", p, {"is_useful": True, "position": n}) for p, n in [("a", 1), ("b", 2), ("c", 1)]])

    pool = pools(q1=[("a", "x", None), ("b", "x", None), ("c", "x", None)])
    pairs = collect_pairs(pool, {"q1"}, index, reading(lambda order, evidence: set(), evidence="verdict"))

    assert pairs.position_N.tolist() == [1, 2, 1]


def test_a_human_label_of_zero_and_none_at_all_are_no_positives():
    index = judgments(("q1", "a", {"utility_score": 0.5}))

    pairs = collect_pairs(pools(q1=[("a", "x", 0), ("b", "y", None)]), {"q1"}, index, reading())

    assert pairs.is_human_N.tolist() == [False, False]
    assert pairs.is_decided_N.tolist() == [True, False]


def test_a_grade_below_the_lowest_relevant_one_decides_nothing():
    rows = pools(q1=[("a", "x", 1), ("b", "x", 2), ("c", "x", 3), ("d", "x", 0), ("alone", "x", None)])

    pairs = collect_pairs(rows, {"q1"}, judgments(), reading(lambda *_: set(), relevant_from=2))

    assert pairs.is_human_N.tolist() == [False, True, True, False, False]
    assert pairs.is_decided_N.tolist() == [False, True, True, True, False]


def test_the_label_policy_is_told_where_the_lists_had_the_passages():
    orders = []

    def remember(order, evidence):
        orders.append(order)
        return set()

    pairs = collect_pairs(pools(q1=[("a", "x", 1), ("alone", "x", 1)]), {"q1"}, judgments(), reading(remember))

    assert orders == [PoolOrder("q1", {"a": 3, "alone": None}, 1)]
    assert pairs.best_rank_N.tolist() == [3.0, math.inf]
    assert pairs.order("q1", slice(0, 2), seed=1) == PoolOrder("q1", {"a": 3}, 1)


def test_queries_that_failed_are_left_out():
    index = judgments(("q2", "a", {"utility_score": 0.5}))

    pairs = collect_pairs(pools(q1=[("a", "x", 1)], q2=[("a", "x", 1)]), {"q2"}, index, reading())

    assert (pairs.query_ids, pairs.query_N.tolist()) == (("q2",), [0])


def test_no_judgments_are_no_pairs():
    pairs = collect_pairs(pools(q1=[("a", "x", 1)]), set(), judgments(), reading())

    assert (pairs.num_queries, len(pairs.query_N), pairs.sums(pairs.is_human_N).tolist()) == (0, 0, [])


@pytest.mark.parametrize(
    ("judgment", "evidence", "expected"),
    [
        (Judgment("p", is_useful=True, is_relevant=True), "verdict", 2.0),
        (Judgment("p", is_useful=False, is_relevant=True), "verdict", 1.0),
        (Judgment("p", is_useful=False, is_relevant=False), "verdict", 0.0),
        (Judgment("p", utility_rank=3, is_relevant=True), "rank", -3.0),
        (Judgment("p", utility_rank=None, is_relevant=True), "rank", -math.inf),
        (Judgment("p", utility_score=-7.5), "score", -7.5),
        (Judgment("p", utility_score=None), "score", -math.inf),
        (None, "verdict", -math.inf),
    ],
)
def test_scores_order_passages_as_the_judge_does(judgment, evidence, expected):
    assert score_of(judgment, evidence) == expected


@pytest.mark.parametrize(
    ("gives", "expected"),
    [
        ({"utility_score"}, "score"),
        ({"utility_rank", "utility_score", "is_relevant"}, "rank"),
        ({"is_useful", "is_relevant"}, "verdict"),
    ],
)
def test_the_kind_of_evidence_is_that_of_the_judge_and_not_of_one_query(gives, expected):
    assert evidence_of(gives) == expected


def test_some_pairs_keep_only_the_queries_that_have_one(judged):
    pairs = judged({"q1": "J.", "q2": "..", "q3": ".B"})

    kept = pairs.only(pairs.is_positive_N)

    assert kept.query_ids == ("q1", "q3")
    assert kept.query_N.tolist() == [0, 1]
    assert kept.position_N.tolist() == [1, 2]
    assert list(kept.spans()) == [("q1", slice(0, 1)), ("q3", slice(1, 2))]
