"""A pool's id follows what the judge sees: query, passages, their order."""

from dataclasses import replace

from winnow.records import Candidate, CandidatePool, Finding

ONE = Candidate("p1", "Title", "text one", (Finding("bm25", 1, 3.0),))
TWO = Candidate("p2", "", "text two", (Finding("dense", 1, 0.5),))
POOL = CandidatePool("q1", "a question", (ONE, TWO))


def test_equal_pools_have_equal_ids_whoever_found_the_passages():
    found_elsewhere = replace(ONE, found_by=(Finding("dense", 9),), human_label=1)

    assert replace(POOL, passages=(found_elsewhere, TWO)).pool_id == POOL.pool_id


def test_order_text_and_query_change_the_id():
    others = {
        replace(POOL, passages=(TWO, ONE)).pool_id,
        replace(POOL, passages=(replace(ONE, text="text 1"), TWO)).pool_id,
        replace(POOL, query="another question").pool_id,
        replace(POOL, passages=()).pool_id,
    }

    assert len(others | {POOL.pool_id}) == 5
