"""The same pools in another order."""

import numpy as np
import pyarrow as pa
import pytest

from winnow import schema
from winnow.audit.judges import SecondOpinion
from winnow.audit.reordering import compare_readings, draw_queries, in_another_order, positions_in
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex
from winnow.records import Candidate, CandidatePool


def pool(query_id="q1", num_passages=5):
    passages = tuple(Candidate(f"p{n}", "", f"text {n}", ()) for n in range(1, num_passages + 1))
    return CandidatePool(query_id, "why?", passages, answers=("so",))


def judgments(positions=()):
    """What a judge said of q1, and where it stood."""
    blank = {**dict.fromkeys(schema.JUDGMENTS.names), "query_id": "q1", "pool_id": "0", "judge_id": "j"}
    rows = [{**blank, "passage_id": name, "position": positions[name]} for name in positions]
    return JudgmentIndex(pa.Table.from_pylist(rows, schema=schema.JUDGMENTS).select(JUDGMENT_COLUMNS))


@pytest.mark.parametrize("num_passages", [2, 5])
def test_another_order_holds_the_same_passages_and_is_another_pool(num_passages):
    original = pool(num_passages=num_passages)

    turned = in_another_order(original, seed=1)

    assert sorted(passage.passage_id for passage in turned.passages) == [p.passage_id for p in original.passages]
    assert turned.pool_id != original.pool_id
    assert (turned.query, turned.answers) == (original.query, original.answers)


def test_the_order_depends_on_the_seed_and_the_query_alone():
    assert in_another_order(pool(), seed=1) == in_another_order(pool(), seed=1)
    assert len({in_another_order(pool(), seed=seed).pool_id for seed in range(8)}) > 4


def test_queries_are_drawn_among_those_that_have_an_order(judged):
    pairs = judged({"q1": "J.", "q2": "J", "q3": "..", "q4": "J."})

    assert sorted(draw_queries(pairs, 9, seed=1)) == ["q1", "q3", "q4"]
    assert len(draw_queries(pairs, 2, seed=1)) == 2
    assert draw_queries(pairs, 2, seed=1) == draw_queries(pairs, 2, seed=1)


def test_positions_are_those_of_the_second_order(judged):
    turned = in_another_order(pool(num_passages=3), seed=1)
    first, second, third = (passage.passage_id for passage in turned.passages)

    by_pool = positions_in([turned], judgments(), judged({"q1": "..."}))
    in_windows = positions_in([turned], judgments({first: 1, second: 2, third: 1}), judged({"q1": "..."}))

    assert [turned.passages[place - 1].passage_id for place in by_pool] == ["p1", "p2", "p3"]
    assert dict(zip(["p1", "p2", "p3"], in_windows.tolist(), strict=True)) == {first: 1, second: 2, third: 1}


def test_flips_are_counted_by_where_passages_stood_and_where_they_went(judged):
    """p1 goes last and is dropped, p4 comes first and is taken: two flips for the front. p2 stays as it is."""
    pairs = judged({"q1": "JJ.."})
    again = SecondOpinion(pairs, np.array([False, True, False, True]), pairs.score_N)

    found = compare_readings(again, np.array([4, 2, 3, 1]), num_asked=2, samples=100, seed=1)

    assert [(flip.position, flip.num_pairs, flip.gained, flip.lost) for flip in found.flips] == [
        (1, 1, 0, 1),
        (2, 1, 0, 0),
        (3, 1, 0, 0),
        (4, 1, 1, 0),
    ]
    assert (found.towards_front, found.towards_back) == (2, 0)
    assert (found.num_asked, found.num_queries, found.kappa.value) == (2, 1, 0.0)


def test_a_second_reading_of_nothing_is_reported_as_such(judged):
    nothing = judged({})
    again = SecondOpinion(nothing, np.array([], dtype=bool), np.array([]))

    found = compare_readings(again, np.array([], dtype=int), num_asked=3, samples=100, seed=1)

    assert (found.num_asked, found.num_queries, found.flips, found.kappa.value) == (3, 0, (), None)
