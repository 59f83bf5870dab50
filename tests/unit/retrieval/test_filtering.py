"""Filters: what is understood, what is refused, and which passages they let through."""

import pytest

from winnow import schema
from winnow.errors import DataError
from winnow.records import Passage
from winnow.retrieval.filtering import FilterCache, find_members, parse_filter

PASSAGES = [
    Passage("p0", "a", title="Otter", document_id="d1", metadata={"source": "wiki", "language": "en"}),
    Passage("p1", "b", title="Otter", document_id="d2"),
    Passage("p2", "c", metadata={"language": "de", "source": "wiki"}),
    Passage("p3", "d", document_id="d1", metadata={"source": "docs"}),
    Passage("p4", "e", title="Straße", metadata={"wiki": "source"}),
]


def sliced(passages=PASSAGES, *, rows=2):
    """Batches that share buffers."""
    return schema.to_table(passages, schema.PASSAGES).to_batches(max_chunksize=rows)


def unsliced(passages=PASSAGES, *, rows=2):
    """Batches as they come out of a file: each with buffers of its own."""
    starts = range(0, len(passages), rows)
    return [
        schema.to_table(passages[start : start + rows], schema.PASSAGES).combine_chunks().to_batches()[0]
        for start in starts
    ]


@pytest.mark.parametrize("split", [sliced, unsliced])
@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ({"source": "wiki"}, [0, 2]),
        ({"source": ["wiki", "docs"]}, [0, 2, 3]),
        ({"source": ["wiki", "docs"], "document_id": "d1"}, [0, 3]),
        ({"source": "wiki", "language": "en"}, [0]),
        ({"title": "Otter"}, [0, 1]),
        ({"title": ""}, [2, 3]),
        ({"title": "Straße"}, [4]),
        ({"passage_id": ["p4", "p1", "nobody"]}, [1, 4]),
        ({"source": "en"}, []),
        ({"language": "wiki"}, []),
        ({"document_id": ""}, []),
        ({}, [0, 1, 2, 3, 4]),
    ],
)
def test_all_fields_must_match_with_any_of_their_values(split, raw, found):
    assert find_members(split(), parse_filter(raw)).nonzero()[0].tolist() == found


def test_equal_filters_are_equal_however_they_are_written():
    assert parse_filter({"a": ["2", "1", "2"], "b": "x"}) == parse_filter({"b": ["x"], "a": ("1", "2")})
    assert len({parse_filter({"a": "1"}), parse_filter({"a": ["1"]}), parse_filter({"a": "2"})}) == 2


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("source=wiki", "maps fields to values, such as"),
        ([["source", "wiki"]], "maps fields to values"),
        ({"": "x"}, "a filter's field is a name.*got ''"),
        ({3: "x"}, "a filter's field is a name.*got 3"),
        ({"source": []}, "needs a text or a list of texts.*leave the field out"),
        ({"source": None}, "needs a text or a list of texts.*got None"),
        ({"source": 3}, "'source' needs a text"),
        ({"source": ["wiki", 3]}, "'source' needs a text"),
        ({"source": {"wiki": 1}}, "'source' needs a text"),
        ({"source": b"wiki"}, "'source' needs a text"),
    ],
)
def test_what_is_no_filter_is_refused_with_the_way_out(raw, message):
    with pytest.raises(DataError, match=message):
        parse_filter(raw)


def test_an_unknown_field_is_refused_with_the_known_ones():
    filters = FilterCache(unsliced(), ["source", "language"])

    with pytest.raises(DataError, match=r"field 'sauce'; .* by document_id, language, passage_id, source, title$"):
        filters.subset(parse_filter({"sauce": "wiki"}))


def test_a_long_list_of_known_fields_is_cut_with_a_count():
    filters = FilterCache(unsliced(), [f"field{number:03d}" for number in range(100)])

    with pytest.raises(DataError, match=r"field018 and 83 more$"):
        filters.subset(parse_filter({"other": "x"}))


def test_a_filter_is_worked_out_once_while_it_is_recent():
    filters = FilterCache(unsliced(), ["source"])

    first = filters.subset(parse_filter({"source": "wiki"}))

    assert first.positions_S.tolist() == [0, 2]
    assert filters.subset(parse_filter({"source": ["wiki"]})) is first
    assert filters.subset(parse_filter({"source": "docs"})).count == 1
    assert filters.subset(parse_filter({"source": "none"})).count == 0


def test_no_conditions_mean_all_passages():
    filters = FilterCache(unsliced(), [])

    assert filters.subset(None) is None
    assert filters.subset(parse_filter({})) is None
