"""Filters: what is understood, what is refused, and which passages they let through."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from winnow import schema
from winnow.errors import DataError
from winnow.records import Passage
from winnow.retrieval.fields import FieldIndex
from winnow.retrieval.filtering import FilterCache, parse_filter
from winnow.retrieval.passages import PassageFile

PASSAGES = [
    Passage("p0", "a", title="Otter", document_id="d1", metadata={"source": "wiki", "language": "en"}),
    Passage("p1", "b", title="Otter", document_id="d2"),
    Passage("p2", "c", metadata={"language": "de", "source": "wiki"}),
    Passage("p3", "d", document_id="d1", metadata={"source": "docs"}),
    Passage("p4", "e", title="Straße", metadata={"wiki": "source"}),
]


def cache(batches, **settings):
    return FilterCache(FieldIndex.build(PassageFile(batches)), **settings)


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
        ({"source": "wiki", "title": "Otter"}, [0]),
        ({"title": "Otter"}, [0, 1]),
        ({"title": ""}, [2, 3]),
        ({"title": "Straße"}, [4]),
        ({"passage_id": ["p4", "p1", "nobody"]}, [1, 4]),
        ({"source": "en"}, []),
        ({"language": "wiki"}, []),
        ({"document_id": ""}, []),
        ({"source": ["wiki", "\ud800", "nobody's"], "title": ["", "Otter"], "language": ["de", "en"]}, [0, 2]),
    ],
)
def test_all_fields_must_match_with_any_of_their_values(split, raw, found):
    assert cache(split()).subset(parse_filter(raw)).positions_S.tolist() == found


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
    filters = cache(unsliced())

    with pytest.raises(DataError, match=r"field 'sauce'; .*document_id, language, passage_id, source, title, wiki$"):
        filters.subset(parse_filter({"sauce": "wiki"}))


def test_a_long_list_of_known_fields_is_cut_with_a_count():
    many = [Passage("p", "text", metadata={f"field{number:03d}": "x" for number in range(100)})]

    with pytest.raises(DataError, match=r"field018 and 83 more$"):
        cache(unsliced(many)).subset(parse_filter({"other": "x"}))


def test_a_filter_is_worked_out_once_while_it_is_recent():
    filters = cache(unsliced())

    first = filters.subset(parse_filter({"source": "wiki"}))

    assert first.positions_S.tolist() == [0, 2]
    assert filters.subset(parse_filter({"source": ["wiki"]})) is first
    assert filters.subset(parse_filter({"source": "docs"})).count == 1
    assert filters.subset(parse_filter({"source": "none"})).count == 0


def test_what_is_kept_of_filters_has_a_limit_in_bytes_and_the_latest_stay():
    numbers = [Passage(f"p{number}", "text") for number in range(80_000)]
    filters = cache(unsliced(numbers, rows=8192), most_bytes=250_000)

    def ask(number):
        return filters.subset(parse_filter({"passage_id": f"p{number}"}))

    first = ask(0)
    for number in range(1, 50):
        assert ask(number).positions_S.tolist() == [number]
        assert ask(0) is first
        # A bit for each passage, twice, for the parts of the index have theirs.
        assert min(number, 9) * 20_000 < filters.num_bytes <= 250_000
    assert ask(49) is ask(49)
    again = ask(1)
    assert ask(1) is again


def test_a_filter_that_is_larger_than_the_limit_is_not_kept():
    filters = cache(unsliced(), most_bytes=5000)
    long = parse_filter({"source": ["wiki", "x" * 5000]})

    assert filters.subset(long).positions_S.tolist() == [0, 2]
    assert filters.num_bytes == 0
    assert filters.subset(long) is not filters.subset(long)


def test_no_conditions_mean_all_passages():
    filters = cache(unsliced())

    assert filters.subset(None) is None
    assert filters.subset(parse_filter({})) is None


def test_threads_ask_for_filters_at_the_same_time():
    filters = cache(unsliced(), most_bytes=4000)
    wanted = [parse_filter({"passage_id": f"p{number % 5}"}) for number in range(400)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda one: filters.subset(one).positions_S.tolist(), wanted))

    assert found == [[number % 5] for number in range(400)]
    assert filters.num_bytes <= 4000
