"""From the datasets of pools and judgments to columns of pairs."""

import math

import pyarrow as pa
import pytest

from winnow import schema
from winnow.audit.pairs import collect_pairs, evidence_of, score_of
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex
from winnow.records import Judgment

KEY = {"pool_id": "0", "judge_id": "j"}


def judgments(*rows):
    blank = dict.fromkeys(["is_relevant", "is_useful", "utility_rank", "utility_score"])
    named = [{"query_id": q, "passage_id": p, **KEY, **blank, **fields} for q, p, fields in rows]
    return JudgmentIndex(pa.Table.from_pylist(named, schema=schema.JUDGMENTS).select(JUDGMENT_COLUMNS))


def pools(**passages):
    rows = [
        {
            "query_id": query_id,
            "passages": [{"passage_id": p, "text": text, "human_label": label} for p, text, label in candidates],
        }
        for query_id, candidates in passages.items()
    ]
    return pa.Table.from_pylist(rows).to_batches(max_chunksize=1)


def best(evidence):
    return {max(evidence, key=lambda judgment: judgment.utility_score).passage_id} if evidence else set()


def test_pairs_hold_both_labels_the_position_and_the_length():
    index = judgments(("q1", "a", {"utility_score": 0.5}), ("q1", "b", {"utility_score": 0.9}))

    pairs = collect_pairs(pools(q1=[("b", " three  little words ", None), ("a", "one", 2)]), {"q1"}, index, best)

    assert pairs.query_ids == ("q1",)
    assert pairs.passage_id_N.tolist() == ["b", "a"]
    assert pairs.position_N.tolist() == [1, 2]
    assert pairs.num_words_N.tolist() == [3, 1]
    assert pairs.is_positive_N.tolist() == [True, False]
    assert pairs.is_human_N.tolist() == [False, True]
    assert pairs.score_N.tolist() == [0.9, 0.5]


def test_a_human_label_of_zero_and_none_at_all_are_no_positives():
    index = judgments(("q1", "a", {"utility_score": 0.5}))

    pairs = collect_pairs(pools(q1=[("a", "x", 0), ("b", "y", None)]), {"q1"}, index, best)

    assert pairs.is_human_N.tolist() == [False, False]


def test_queries_that_failed_are_left_out():
    index = judgments(("q2", "a", {"utility_score": 0.5}))

    pairs = collect_pairs(pools(q1=[("a", "x", 1)], q2=[("a", "x", 1)]), {"q2"}, index, best)

    assert (pairs.query_ids, pairs.query_N.tolist()) == (("q2",), [0])


def test_no_judgments_are_no_pairs():
    pairs = collect_pairs(pools(q1=[("a", "x", 1)]), set(), judgments(), best)

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
    ("fields", "expected"),
    [
        ({"utility_score": 1.0}, "score"),
        ({"utility_rank": 1, "utility_score": 0.5}, "rank"),
        ({"is_useful": True}, "verdict"),
    ],
)
def test_the_kind_of_evidence_is_that_of_the_judge_and_not_of_one_query(fields, expected):
    assert evidence_of(judgments(("q1", "a", {"is_useful": False}), ("q2", "b", fields)).held) == expected


def test_some_pairs_keep_only_the_queries_that_have_one(judged):
    pairs = judged({"q1": "J.", "q2": "..", "q3": ".B"})

    kept = pairs.only(pairs.is_positive_N)

    assert kept.query_ids == ("q1", "q3")
    assert kept.query_N.tolist() == [0, 1]
    assert kept.position_N.tolist() == [1, 2]
    assert list(kept.spans()) == [("q1", slice(0, 1)), ("q3", slice(1, 2))]
