"""Passages on disk: every field comes back, from every batch, and only what is asked for."""

import numpy as np
import pyarrow as pa
import pytest

from winnow import schema
from winnow.errors import DataError
from winnow.records import Passage, ScoredPassage
from winnow.retrieval import passages as module
from winnow.retrieval.passages import PassageFile, write_passages

PASSAGES = [
    Passage("p2", "otters sleep", title="Otter", document_id="d1", metadata={"source": "wiki", "language": "en"}),
    Passage("p1", "a bridge"),
    Passage("p3", "ζῷον 🦦", metadata={"source": ""}),
    Passage("p0", "rain", title="Regen", document_id="d1"),
    Passage("p4", "", metadata={}),
]


@pytest.fixture
def stored(tmp_path, monkeypatch):
    # Two passages in each batch, so that five lie in three.
    monkeypatch.setattr(module, "_BATCH_ROWS", 2)
    schema.write_dataset(tmp_path / "corpus.parquet", schema.to_table(PASSAGES, schema.PASSAGES))
    write_passages(tmp_path / "corpus.parquet", tmp_path / "passages.arrow")
    return PassageFile.load(tmp_path / "passages.arrow")


def test_every_field_comes_back_in_the_order_asked_for(stored):
    found = stored.results(np.array([3, 2, 0, 4, 1, 3]), np.arange(6) / 2, with_text=True)

    assert len(stored) == 5
    assert [batch.num_rows for batch in stored.batches] == [2, 2, 1]
    assert found == [
        ScoredPassage("p0", 0.0, "Regen", "rain", "d1", None),
        ScoredPassage("p3", 0.5, "", "ζῷον 🦦", None, {"source": ""}),
        ScoredPassage("p2", 1.0, "Otter", "otters sleep", "d1", {"source": "wiki", "language": "en"}),
        ScoredPassage("p4", 1.5, "", "", None, None),
        ScoredPassage("p1", 2.0, "", "a bridge", None, None),
        ScoredPassage("p0", 2.5, "Regen", "rain", "d1", None),
    ]


def test_the_text_is_left_out_on_request(stored):
    found = stored.results(np.array([0]), np.zeros(1), with_text=False)

    assert (found[0].passage_id, found[0].title, found[0].text) == ("p2", "Otter", "")


def test_passages_are_read_in_order_with_title_and_text(stored):
    assert [(p.passage_id, p.title, p.text) for p in stored] == [(p.passage_id, p.title, p.text) for p in PASSAGES]


def test_the_values_of_a_field_are_read_by_position(stored):
    def values(field):
        return stored.values(np.array([3, 0, 4, 2, 1, 0]), field)

    assert values("passage_id") == ["p0", "p2", "p4", "p3", "p1", "p2"]
    assert values("title") == ["Regen", "Otter", "", "", "", "Otter"]
    assert values("document_id") == ["d1", "d1", None, None, None, "d1"]
    assert values("source") == [None, "wiki", None, "", None, "wiki"]
    assert values("language") == [None, "en", None, None, None, "en"]
    assert stored.values(np.array([], np.int64), "source") == []


def test_equal_passages_give_equal_files(stored, tmp_path):
    write_passages(tmp_path / "corpus.parquet", tmp_path / "again.arrow")

    assert (tmp_path / "again.arrow").read_bytes() == (tmp_path / "passages.arrow").read_bytes()


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"PAR1 and then nothing"])
def test_a_file_that_is_no_arrow_file_is_refused(tmp_path, content):
    (tmp_path / "passages.arrow").write_bytes(content)

    with pytest.raises(DataError, match=r"passages.arrow is not a readable Arrow file .*run `winnow index` again"):
        PassageFile.load(tmp_path / "passages.arrow")


@pytest.mark.parametrize(
    ("offsets", "text"), [([0, 10**6, 4], b"rain"), ([0, -9, 4], b"rain"), ([0, 1, 4], b"\xff\xfe\xff\xff")]
)
def test_texts_that_lie_outside_the_file_or_are_no_utf8_are_refused(tmp_path, offsets, text):
    buffers = [None, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(text)]
    wrong = pa.Array.from_buffers(pa.string(), 2, buffers)
    fields = schema.to_table(PASSAGES[:2], schema.PASSAGES).combine_chunks().to_batches()[0]
    batch = pa.record_batch([*fields.columns[:2], wrong, *fields.columns[3:]], schema=schema.PASSAGES)
    with pa.OSFile(str(tmp_path / "passages.arrow"), "wb") as file, pa.ipc.new_file(file, schema.PASSAGES) as writer:
        writer.write_batch(batch)

    with pytest.raises(DataError, match=r"passages.arrow is not a readable Arrow file"):
        PassageFile.load(tmp_path / "passages.arrow")


def test_a_corpus_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "corpus.parquet").write_bytes(b"PAR1")

    with pytest.raises(DataError, match=r"corpus.parquet is not a readable Parquet file"):
        write_passages(tmp_path / "corpus.parquet", tmp_path / "passages.arrow")
    assert not (tmp_path / "passages.arrow").exists()
