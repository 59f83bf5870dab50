"""The durable sink: what was written is found, whatever else happened."""

from winnow.cluster.sink import EvidenceSink
from winnow.records import JudgedQuery, Judgment


def judged(query_id, status="ok", score=0.5, detail=None):
    judgments = (Judgment("p1", utility_score=score),) if status == "ok" else ()
    return JudgedQuery(query_id, f"pool-{query_id}", "j", status, detail=detail, judgments=judgments)


def test_an_unused_sink_knows_nothing(tmp_path):
    sink = EvidenceSink(tmp_path / "evidence")

    assert sink.statuses() == {}
    assert sink.read([("q1", "pool-q1")]).num_rows == 0


def test_only_the_evidence_asked_for_is_read(tmp_path):
    sink = EvidenceSink(tmp_path / "evidence")
    sink.write([judged("q1"), judged("q2")])
    sink.write([judged("q3", "too_long")])

    rows = sink.read([("q2", "pool-q2"), ("q3", "another pool"), ("q4", "pool-q4")])

    assert rows["query_id"].to_pylist() == ["q2"]
    assert sink.statuses()[("q3", "pool-q3")] == "too_long"


def test_a_file_that_was_being_written_when_the_process_died_is_not_seen(tmp_path):
    sink = EvidenceSink(tmp_path)
    sink.write([judged("q1")])
    (tmp_path / ".part-00000000000000000001-dead.parquet.x7").write_bytes(b"half a file")

    assert list(sink.statuses()) == [("q1", "pool-q1")]


def test_a_label_in_use_never_changes_when_its_query_is_judged_twice(tmp_path):
    sink = EvidenceSink(tmp_path)
    for again in [judged("q1", score=0.1), judged("q1", score=0.2), judged("q1", "engine_error")]:
        sink.write([again])

    rows = sink.read([("q1", "pool-q1")]).to_pylist()

    assert [row["judgments"][0]["utility_score"] for row in rows] == [0.1]


def test_a_retry_replaces_a_failure(tmp_path):
    sink = EvidenceSink(tmp_path)
    sink.write([judged("q1", "engine_error", detail="first"), judged("q2", "engine_error", detail="first")])
    sink.write([judged("q1"), judged("q2", "engine_error", detail="second")])

    rows = {row["query_id"]: row for row in sink.read([("q1", "pool-q1"), ("q2", "pool-q2")]).to_pylist()}

    assert rows["q1"]["status"] == "ok"
    assert rows["q2"]["detail"] == "second"


def test_setting_aside_starts_anew_and_deletes_nothing(tmp_path):
    sink = EvidenceSink(tmp_path / "evidence" / "judge")
    sink.write([judged("q1")])

    sink.set_aside()

    assert sink.statuses() == {}
    assert len(list((tmp_path / "evidence").rglob("part-*.parquet"))) == 1


def test_ids_that_run_together_are_kept_apart(tmp_path):
    sink = EvidenceSink(tmp_path)
    sink.write([JudgedQuery("ab", "c", "j", "ok")])

    assert sink.read([("a", "bc")]).num_rows == 0
