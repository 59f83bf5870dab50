"""The durable sink: what was written is found, whatever else happened."""

import pyarrow as pa
import pytest

from winnow import schema
from winnow.cluster import sink as sink_module
from winnow.cluster.sink import EvidenceSink
from winnow.judging.rows import EVIDENCE, evidence_table
from winnow.records import JudgedQuery, Judgment


def read(sink, keys):
    return pa.concat_tables([EVIDENCE.empty_table(), *sink.read(keys)])


def judged(query_id, status="ok", score=0.5, detail=None):
    judgments = (Judgment("p1", utility_score=score),) if status == "ok" else ()
    return JudgedQuery(query_id, f"pool-{query_id}", "j", status, detail=detail, judgments=judgments)


def test_an_unused_sink_knows_nothing(tmp_path):
    sink = EvidenceSink(tmp_path / "evidence")

    assert sink.statuses() == {}
    assert read(sink, [("q1", "pool-q1")]).num_rows == 0


def test_only_the_evidence_asked_for_is_read(tmp_path):
    sink = EvidenceSink(tmp_path / "evidence")
    sink.write([judged("q1"), judged("q2")])
    sink.write([judged("q3", "too_long")])

    rows = read(sink, [("q2", "pool-q2"), ("q3", "another pool"), ("q4", "pool-q4")])

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

    rows = read(sink, [("q1", "pool-q1")]).to_pylist()

    assert [row["judgments"][0]["utility_score"] for row in rows] == [0.1]


def test_a_retry_replaces_a_failure(tmp_path):
    sink = EvidenceSink(tmp_path)
    sink.write([judged("q1", "engine_error", detail="first"), judged("q2", "engine_error", detail="first")])
    sink.write([judged("q1"), judged("q2", "engine_error", detail="second")])

    rows = {row["query_id"]: row for row in read(sink, [("q1", "pool-q1"), ("q2", "pool-q2")]).to_pylist()}

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

    assert read(sink, [("a", "bc")]).num_rows == 0


@pytest.fixture
def small_steps(monkeypatch):
    """Ranges and merges of three, so that a few rows go through many of them."""
    monkeypatch.setattr(sink_module, "_RANGE_ROWS", 3)
    monkeypatch.setattr(sink_module, "_PARTS_MERGED", 3)


def test_evidence_comes_in_the_order_of_keys_in_ranges_of_bounded_size(tmp_path, small_steps):
    sink = EvidenceSink(tmp_path)
    names = [f"q{i}" for i in (5, 2, 9, 0, 7, 1, 8, 3)]
    for name in names:
        sink.write([judged(name)])

    tables = list(sink.read([(name, f"pool-{name}") for name in names]))

    assert [table["query_id"].to_pylist() for table in tables] == [["q0", "q1", "q2"], ["q3", "q5", "q7"], ["q8", "q9"]]
    assert list(tmp_path.glob(".sorting-*")) == []


def test_merging_parts_changes_nothing_that_is_read(tmp_path, small_steps):
    sink = EvidenceSink(tmp_path)
    for number in range(10):
        sink.write([judged(f"q{number}", "engine_error" if number % 2 else "ok", detail="first")])
    sink.write([judged("q1", score=0.9), judged("q2", score=0.1)])
    keys = [(f"q{number}", f"pool-q{number}") for number in range(10)]
    before, statuses = read(sink, keys), sink.statuses()

    sink.compact()
    again = read(sink, keys)
    sink.compact()

    assert len(list(tmp_path.glob("part-*"))) == 2
    assert len(list(tmp_path.glob("merged-*"))) == 3
    assert again == before == read(sink, keys)
    assert sink.statuses() == statuses
    assert statuses["q1", "pool-q1"] == "ok"


def test_a_merge_that_was_killed_before_it_removed_its_parts_leaves_every_row_once(tmp_path, small_steps):
    sink = EvidenceSink(tmp_path)
    for number in range(3):
        sink.write([judged(f"q{number}")])
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("part-*")}
    sink.compact()
    for name, content in kept.items():
        (tmp_path / name).write_bytes(content)

    rows = read(sink, [(f"q{number}", f"pool-q{number}") for number in range(3)])

    assert rows["query_id"].to_pylist() == ["q0", "q1", "q2"]


def without(table, column, nested=None):
    """``table`` as it was written before ``column`` (or a field in its structs) was added."""
    place = table.schema.get_field_index(column)
    if nested is None:
        return table.remove_column(place)
    field = table.schema.field(column)
    fields = [each for each in field.type.value_type if each.name != nested]
    older = pa.field(column, pa.list_(pa.struct(fields)), nullable=False)
    return table.set_column(place, older, pa.array(table[column].to_pylist(), older.type))


@pytest.mark.parametrize(("column", "nested"), [("reading", None), ("detail", None), ("traces", "reasoning")])
def test_files_that_lack_a_later_column_are_read_and_merged_with_newer_ones(tmp_path, small_steps, column, nested):
    sink = EvidenceSink(tmp_path)
    for number in range(2):
        table = without(evidence_table([judged(f"q{number}")]), column, nested)
        schema.write_dataset(tmp_path / f"part-{number:020d}-old.parquet", table)
    sink.write([judged("q2", "too_long", detail="newer")])
    keys = [(f"q{number}", f"pool-q{number}") for number in range(3)]
    before = read(sink, keys)

    sink.compact()

    assert sink.statuses() == dict(zip(keys, ["ok", "ok", "too_long"], strict=True))
    assert before["detail"].to_pylist() == [None, None, "newer"]
    assert [row["judgments"][0]["utility_score"] for row in before.to_pylist()[:2]] == [0.5, 0.5]
    assert read(sink, keys) == before
    assert len(list(tmp_path.glob("merged-*"))) == 1


def test_rows_of_another_reading_count_once_they_are_found_to_be_read_alike(tmp_path, small_steps):
    first, second = EvidenceSink(tmp_path), EvidenceSink(tmp_path, reading=2)
    parts = [first.write([judged(f"q{number}"), judged(f"r{number}")]) for number in range(3)]
    first.compact()
    parts.append(second.write([judged("q9")]))
    asked = []

    def is_alike(row):
        asked.append(row["query_id"])
        return row["query_id"].startswith("q")

    before = set(second.statuses())
    found = second.read_again(is_alike)
    again = second.read_again(is_alike)

    keys = [(name, f"pool-{name}") for name in ("q0", "q1", "q2", "q9", "r0")]
    assert before == {("q9", "pool-q9")}
    assert (found, again) == ((3, 3), (0, 0))
    assert sorted(asked) == ["q0", "q1", "q2", "r0", "r1", "r2"]
    assert sorted(second.statuses()) == keys[:4]
    assert read(second, keys)["query_id"].to_pylist() == ["q0", "q1", "q2", "q9"]
    assert second.missing(parts) == set()
    # The version before finds its own labels again, should somebody go back to it.
    assert first.read_again(lambda row: row["query_id"] != "q9") == (6, 1)
    assert len(first.statuses()) == 6
