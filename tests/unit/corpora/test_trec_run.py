"""Run files from other programs: lists by rank, bad lines counted, queries in one piece."""

import gzip

import pytest

from winnow.corpora.trec_run import scan_run
from winnow.errors import DataError

QUERIES = {"q1", "q2", "q3"}
PASSAGES = {"a", "b", "c", "d"}


@pytest.fixture
def scan(tmp_path):
    def write_and_scan(text: str | bytes):
        path = tmp_path / "some.run"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        rejected = []
        run = scan_run(
            path, query_ids=QUERIES, passage_ids=PASSAGES, reject=rejected.append, unpack_to=tmp_path / "unpacked"
        )
        return run, rejected

    return write_and_scan


def ids(run, query_id: str, depth: int = 10) -> list[str]:
    return [hit.passage_id for hit in run.search([query_id], depth)[0]]


def test_lists_are_read_per_query_in_any_order_and_as_deep_as_asked(scan):
    run, rejected = scan("q2 Q0 a 1 9.5 x\nq2 Q0 b 2 9.0 x\nq1 Q0 c 1 3 x\nq1 Q0 d 2 2 x\nq1 Q0 a 3 1 x\n")

    assert [[hit.passage_id for hit in hits] for hits in run.search(["q1", "q3", "q2"], 2)] == [
        ["c", "d"],
        [],
        ["a", "b"],
    ]
    assert run.search(["q2"], 1)[0][0].score == 9.5
    assert (run.num_queries, run.num_rows, rejected) == (2, 5, [])


def test_the_rank_orders_a_list_then_the_score_then_the_id(scan):
    run, _ = scan("q1 Q0 a 2 1 x\nq1 Q0 d 1 5 x\nq1 Q0 c 1 7 x\nq1 Q0 b 1 5 x\n")

    assert ids(run, "q1") == ["c", "b", "d", "a"]


def test_bad_lines_are_rejected_with_their_number_and_reason_and_the_rest_is_kept(scan):
    lines = [
        b"q1 Q0 a 1 5.0 x",
        b"q1 Q0 b 2 4.0",
        b"q1 Q0 nowhere 3 3.0 x",
        b"nobody Q0 a 1 5.0 x",
        b"q1 Q0 a 4 2.0 x",
        b"q1 Q0 b first 4.0 x",
        b"q1 Q0 b 2 high x",
        b"q1 Q0 b 2 nan x",
        b"q1 Q0 \xff 2 1.0 x",
        b"",
        b"q1 Q0 c 5 1.0 x",
    ]

    run, rejected = scan(b"\n".join(lines))

    assert [(row.line, row.reason) for row in rejected] == [
        (2, "wrong_columns"),
        (3, "unknown_passage"),
        (4, "unknown_query"),
        (5, "duplicate_id"),
        (6, "wrong_type"),
        (7, "wrong_type"),
        (8, "wrong_type"),
        (9, "invalid_utf8"),
    ]
    assert rejected[1].raw == "q1 Q0 nowhere 3 3.0 x"
    assert "'first'" in rejected[4].detail
    # lines in = kept + rejected (+ the blank one)
    assert run.num_rows + len(rejected) + 1 == len(lines)
    assert ids(run, "q1") == ["a", "c"]


def test_the_lines_of_an_unknown_query_within_a_known_one_do_not_enter_its_list(scan):
    run, _ = scan("q1 Q0 a 2 5 x\nnobody Q0 b 1 9 x\nq1 Q0 c 3 4 x\n")

    assert ids(run, "q1") == ["a", "c"]


def test_a_query_in_two_pieces_is_an_error_that_names_query_line_and_remedy(scan):
    with pytest.raises(DataError, match=r"line 3: query 'q1'.*sort"):
        scan("q1 Q0 a 1 5 x\nq2 Q0 a 1 5 x\nq1 Q0 b 2 4 x\n")


def test_tabs_windows_line_ends_and_a_byte_order_mark_are_read(scan):
    run, rejected = scan(b"\xef\xbb\xbfq1\tQ0\ta\t1\t5\tmy run\r\nq1\tQ0\tb\t2\t4\tmy run\r\n")

    assert (ids(run, "q1"), rejected) == (["a", "b"], [])


def test_an_old_line_end_within_a_line_hides_no_row(scan):
    run, rejected = scan(b"q1 Q0 a 1 5 x\rq1 Q0 b 2 4 x\nq1 Q0 c 3 3 x\n")

    assert [(row.line, row.reason) for row in rejected] == [(1, "wrong_columns")]
    assert ids(run, "q1") == ["c"]


def test_an_empty_file_has_no_lists(scan):
    run, rejected = scan("")

    assert (run.search(["q1"], 5), run.num_queries, rejected) == ([[]], 0, [])


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=r"none\.run"):
        scan_run(tmp_path / "none.run", query_ids=QUERIES, passage_ids=PASSAGES, reject=print, unpack_to=tmp_path)


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("q1\ta\t1\nq1\tb\t2\n", [("a", 1.0), ("b", 0.5)]),
        ("q1\tb\t2\t3.5\nq1\ta\t1\t7\n", [("a", 7.0), ("b", 3.5)]),
        # The first line that is one of a run decides: neither of the two before it is.
        ("q1 Q0 a\nq1 Q0 b 1\nq1 Q0 c 1 9 x\nq1 d 2\n", [("c", 9.0)]),
        (
            gzip.compress(b"q1 Q0 a 1 9 x\n", mtime=0) + gzip.compress(b"q1 Q0 b 2 8 x\n", mtime=0),
            [("a", 9.0), ("b", 8.0)],
        ),
        ("q1\ta\t0\n", [("a", 1.0)]),
    ],
)
def test_ms_marcos_columns_and_compressed_files_are_read(scan, text, scores):
    run, _ = scan(text)

    assert [(hit.passage_id, hit.score) for hit in run.search(["q1"], 9)[0]] == scores


def test_a_rank_of_thousands_of_digits_and_a_file_in_another_encoding_are_no_crash(scan):
    _, rejected = scan("q1 Q0 a " + "9" * 5000 + " 1 x\n")
    assert [row.reason for row in rejected] == ["wrong_type"]

    with pytest.raises(DataError, match="iconv"):
        scan("q1 Q0 a 1 1 x\n".encode("utf-16"))
