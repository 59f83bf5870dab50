"""Evidence unfolds into the published datasets, whatever the order it came in."""

from dataclasses import asdict

from winnow import schema
from winnow.judging.rows import EVIDENCE, evidence_table, pools_of, unfold
from winnow.records import Candidate, CandidatePool, Finding, JudgedQuery, JudgeTrace, Judgment

TRACE = JudgeTrace("query_gain", 1, "sha", "scored", 10, 0, 1, 0.5, passage_id="p1")
OK = JudgedQuery(
    "q2", "pool2", "j", "ok", judgments=(Judgment("p2"), Judgment("p1", utility_score=0.5)), traces=(TRACE,)
)
FAILED = JudgedQuery("q1", "pool1", "j", "engine_error", detail="gone")


def test_a_query_without_a_label_has_a_row_and_no_judgments():
    tables = unfold(evidence_table([OK, FAILED]))

    assert tables.judged_queries["query_id"].to_pylist() == ["q1", "q2"]
    assert tables.judged_queries["status"].to_pylist() == ["engine_error", "ok"]
    assert tables.judgments["query_id"].to_pylist() == ["q2", "q2"]
    assert tables.judgments["passage_id"].to_pylist() == ["p1", "p2"]
    assert tables.judgments["utility_score"].to_pylist() == [0.5, None]
    assert tables.traces.to_pylist()[0]["prompt_tokens"] == 10


def test_the_order_of_the_evidence_does_not_show():
    assert unfold(evidence_table([OK, FAILED])) == unfold(evidence_table([FAILED, OK]))


def test_no_evidence_gives_three_empty_tables_with_their_columns():
    tables = unfold(EVIDENCE.empty_table())

    assert tables.judged_queries.schema == schema.JUDGED_QUERIES
    assert tables.judgments.schema == schema.JUDGMENTS
    assert tables.traces.schema == schema.JUDGE_TRACES
    assert tables.traces.num_rows == 0


def test_pools_come_back_as_they_were_stored():
    pool = CandidatePool("q1", "how?", (Candidate("p1", "t", "text", (Finding("bm25", 1, 2.5),), human_label=None),))
    table = schema.to_table([{**asdict(pool), "pool_id": pool.pool_id}], schema.CANDIDATE_POOLS)

    assert pools_of(table) == [pool]
