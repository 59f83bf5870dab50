"""Which queries are shown, and what is known of each."""

import numpy as np
import pyarrow as pa

from winnow import schema
from winnow.audit.browsing import DIFFERS, FLIPPED, MISSED, Known, choose_queries, describe_queries, disagreements
from winnow.audit.judges import SecondOpinion

KEY = {"query_id": "q1", "pool_id": "0", "judge_id": "j"}


def test_failures_and_disagreements_come_first_in_turn():
    statuses = {f"q{n}": "ok" for n in range(20)} | {"f1": "malformed", "f2": "too_long", "f3": "truncated"}
    marks = {"q3": (MISSED,), "q4": (MISSED,)}

    chosen = choose_queries(statuses, marks, limit=7, seed=1)

    assert len(set(chosen)) == 7
    assert {chosen[0], chosen[2], chosen[4]} == {"f1", "f2", "f3"}
    assert {chosen[1], chosen[3]} == {"q3", "q4"}


def test_the_sample_depends_on_the_seed_and_not_on_the_order_of_the_queries():
    statuses = {f"q{n}": "ok" for n in range(50)}
    backwards = dict(reversed(statuses.items()))

    first = choose_queries(statuses, {}, limit=5, seed=1)

    assert first == choose_queries(backwards, {}, limit=5, seed=1)
    assert first != choose_queries(statuses, {}, limit=5, seed=2)


def test_fewer_queries_than_places_are_all_shown():
    assert choose_queries({"q1": "ok"}, {}, limit=300, seed=1) == ["q1"]


def test_disagreements_say_with_whom(judged):
    pairs = judged({"q1": "H.", "q2": "B.", "q3": "J."})
    other = SecondOpinion(pairs, np.array([False, False, False, False, True, False]), pairs.score_N)
    again = SecondOpinion(pairs, np.array([True, False, True, False, True, False]), pairs.score_N)

    found = disagreements(pairs, other, again)

    assert found == {"q1": (MISSED, FLIPPED), "q2": (DIFFERS,)}


def test_everything_known_of_a_query_is_shown():
    pool = {
        **{name: KEY[name] for name in ("query_id", "pool_id")},
        "query": "why?",
        "answers": ["because"],
        "passages": [
            {
                "passage_id": "a",
                "title": "A",
                "text": "x",
                "found_by": [{"source": "bm25", "rank": 3}],
                "human_label": 1,
            },
            {"passage_id": "b", "title": "", "text": "y", "found_by": [], "human_label": None},
        ],
    }
    outcome = {**KEY, "status": "ok", "attempts": 2, "pseudo_answer": "so", "passages_cut": 1}
    judgment = {**KEY, "passage_id": "a", "is_useful": True, "utility_rank": 1}
    trace = {**KEY, "round": "utility_ranking", "attempt": 1, "prompt_sha": "s", "reply": "[1]", "reasoning": "hm"}
    numbers = {"finish_reason": "stop", "prompt_tokens": 9, "cached_tokens": 1, "output_tokens": 2, "seconds": 0.5}
    known = Known(
        pools=pa.Table.from_pylist([pool], schema=schema.CANDIDATE_POOLS),
        judged_queries=pa.Table.from_pylist([outcome], schema=schema.JUDGED_QUERIES),
        judgments=pa.Table.from_pylist([judgment], schema=schema.JUDGMENTS),
        traces=pa.Table.from_pylist([{**trace, **numbers}], schema=schema.JUDGE_TRACES),
        positives={"q1": frozenset({"a"})},
        others={"q1": {"b": True}},
    )

    (shown,) = describe_queries(["q1"], known, {"q1": [MISSED]})

    assert (shown["query"], shown["answers"], shown["pseudo_answer"]) == ("why?", ["because"], "so")
    assert (shown["marks"], shown["attempts"], shown["passages_cut"]) == ([MISSED], 2, 1)
    first, second = shown["passages"]
    assert (first["is_positive"], first["human_label"], first["found_by"]) == (True, 1, ["bm25 3"])
    assert (first["utility_rank"], first["is_useful"], first["other_is_positive"]) == (1, True, None)
    assert (second["is_positive"], second["human_label"], second["other_is_positive"]) == (False, None, True)
    (call,) = shown["traces"]
    assert (call["round"], call["reply"], call["reasoning"], call["prompt_tokens"]) == (
        "utility_ranking",
        "[1]",
        "hm",
        9,
    )


def test_a_query_that_failed_has_passages_without_a_verdict():
    pool = {"query_id": "q1", "pool_id": "0", "query": "why?"}
    passage = {"passage_id": "a", "title": "", "text": "x", "found_by": []}
    outcome = {**KEY, "status": "malformed", "detail": "no labels", "attempts": 2, "passages_cut": 0}
    known = Known(
        pools=pa.Table.from_pylist([{**pool, "passages": [passage]}], schema=schema.CANDIDATE_POOLS),
        judged_queries=pa.Table.from_pylist([outcome], schema=schema.JUDGED_QUERIES),
        judgments=schema.JUDGMENTS.empty_table(),
        traces=schema.JUDGE_TRACES.empty_table(),
        positives={},
        others={},
    )

    (shown,) = describe_queries(["q1"], known, {})

    assert (shown["status"], shown["detail"]) == ("malformed", "no labels")
    assert shown["passages"][0]["is_positive"] is None
    assert shown["traces"] == []
