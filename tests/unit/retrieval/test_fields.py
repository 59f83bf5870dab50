"""Values to positions: every value of every field is found, and on disk it takes two numbers per passage and field."""

import hashlib
from itertools import groupby
from random import Random

import numpy as np
import pytest

from winnow import schema
from winnow.errors import IndexMismatchError
from winnow.records import Passage
from winnow.retrieval.fields import FieldIndex
from winnow.retrieval.passages import PassageFile

DRAWS = Random(3)
PASSAGES = [
    Passage(
        f"p{number}",
        "text",
        title=DRAWS.choice(["", "Otter", "Straße"]),
        document_id=DRAWS.choice([None, "d1", "d2", "d3"]),
        metadata=DRAWS.choice(
            [None, {}, {"source": "wiki"}, {"source": "docs", "title": "mine"}, {"unique": str(number), "source": ""}]
        ),
    )
    for number in range(100)
]


def stored(passages=PASSAGES, *, rows=7):
    """Each batch with buffers of its own, as they come out of a file."""
    starts = range(0, len(passages), rows)
    return PassageFile(
        [
            schema.to_table(passages[start : start + rows], schema.PASSAGES).combine_chunks().to_batches()[0]
            for start in starts
        ]
    )


def value_of(passage, field):
    if field in ("passage_id", "document_id", "title"):
        return getattr(passage, field)
    return (passage.metadata or {}).get(field)


def test_every_value_of_every_field_is_found_where_it_is():
    index = FieldIndex.build(stored())

    assert list(index.counts) == ["document_id", "passage_id", "source", "title", "unique"]
    for field, count in index.counts.items():
        values = [value_of(passage, field) for passage in PASSAGES]
        assert count == sum(value is not None for value in values)
        for value in {*values, "nobody's"} - {None}:
            found = index.positions(field, [value]).tolist()
            assert found == [position for position, other in enumerate(values) if other == value]


def test_the_file_has_eight_bytes_per_passage_and_field_and_finds_the_same(tmp_path):
    built = FieldIndex.build(stored())
    built.save(tmp_path / "fields.npy")

    for memory_map in (True, False):
        loaded = FieldIndex.load(tmp_path / "fields.npy", built.counts, stored(), memory_map=memory_map)
        assert (
            loaded.positions("source", ["docs", "wiki"]).tolist()
            == built.positions("source", ["docs", "wiki"]).tolist()
        )
    assert (tmp_path / "fields.npy").stat().st_size == 128 + 8 * sum(built.counts.values())


def test_equal_passages_give_equal_files_however_they_come(tmp_path):
    for rows in (3, 100):
        FieldIndex.build(stored(rows=rows)).save(tmp_path / f"{rows}.npy")

    assert (tmp_path / "3.npy").read_bytes() == (tmp_path / "100.npy").read_bytes()


def begin_alike():
    """Texts whose BLAKE2b digests of 16 bytes begin with the same 4 bytes: about one pair among 100,000."""

    def start(text):
        return hashlib.blake2b(text.encode(), digest_size=16).digest()[:4]

    texts = sorted((f"value {number}" for number in range(300_000)), key=start)
    return [group for _, texts in groupby(texts, key=start) if len(group := list(texts)) > 1]


def test_values_whose_digests_begin_alike_are_told_apart():
    pairs = begin_alike()
    assert len(pairs) >= 3
    for first, second in pairs:
        for count in (1, 2, 5):
            rows = [first] * count + ["between"] + [second] * 3 + [first]
            index = FieldIndex.build(stored([Passage(str(row), "", document_id=name) for row, name in enumerate(rows)]))

            assert index.positions("document_id", [first]).tolist() == [*range(count), count + 4]
            assert index.positions("document_id", [second]).tolist() == [count + 1, count + 2, count + 3]
            alone = FieldIndex.build(stored([Passage("p", "", document_id=first)]))
            assert alone.positions("document_id", [second]).tolist() == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 99), np.uint32), r"uint32 \(2, 99\)"),
        (np.zeros((200,), np.uint32), r"uint32 \(200,\)"),
        (np.zeros((2, 100), np.int64), r"int64 \(2, 100\)"),
        (np.full((2, 100), 100, np.uint32), "positions below 100"),
    ],
)
def test_fields_of_another_version_are_refused(tmp_path, rows, message):
    np.save(tmp_path / "fields.npy", rows)

    with pytest.raises(IndexMismatchError, match=message):
        FieldIndex.load(tmp_path / "fields.npy", {"passage_id": 100}, stored())


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x93NUMPY\x01\x00v\x00{'descr': '<u4'"])
def test_a_file_that_is_no_array_is_refused(tmp_path, content):
    (tmp_path / "fields.npy").write_bytes(content)

    with pytest.raises(IndexMismatchError, match=r"fields.npy cannot be read"):
        FieldIndex.load(tmp_path / "fields.npy", {"passage_id": 100}, stored())
