"""The BEIR layout: ``corpus.jsonl``, ``queries.jsonl`` and qrels (also TREC's four columns)."""

from pathlib import Path

from winnow.corpora.reading import BadRow, Reading, first_line, id_field, parse_object, read_rows, text_field
from winnow.records import Passage, Query

Qrel = tuple[str, str, int]
"""Query id, passage id, relevance."""


def read_corpus(path: Path) -> Reading[Passage]:
    """The passages in ``path``; a row needs ``_id`` and ``text``, and may have ``title`` and ``document_id``."""
    return read_rows(path, _parse_passage, key=lambda passage: passage.passage_id)


def read_queries(path: Path) -> Reading[Query]:
    """The queries in ``path``; a row needs ``_id`` and ``text``, and may have ``answers``."""
    return read_rows(path, _parse_query, key=lambda query: query.query_id)


def read_qrels(path: Path) -> Reading[Qrel]:
    """The judged pairs in ``path``: three tab-separated columns under a header, or TREC's four without one."""
    has_header = first_line(path).lower().startswith("query-id")
    return read_rows(path, _parse_qrel, key=lambda qrel: qrel[:2], skip=1 if has_header else 0)


def _parse_passage(line: str) -> Passage:
    row = parse_object(line)
    passage_id = id_field(row)
    text = text_field(row, "text")
    if not text:
        raise BadRow("empty_text", f"passage {passage_id!r} has no text")
    document_id = text_field(row, "document_id", default="") or None
    return Passage(passage_id, text, text_field(row, "title", default=""), document_id, _metadata(row))


def _parse_query(line: str) -> Query:
    row = parse_object(line)
    query_id = id_field(row)
    text = text_field(row, "text")
    if not text:
        raise BadRow("empty_text", f"query {query_id!r} has no text")
    answers = row.get("answers") or []
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise BadRow("wrong_type", f"expected a list of strings in 'answers', got {answers!r:.60}")
    return Query(query_id, text, tuple(answers))


def _parse_qrel(line: str) -> Qrel:
    columns = line.split("\t") if "\t" in line else line.split()
    if len(columns) == 4:
        columns.pop(1)  # TREC's unused iteration column
    if len(columns) != 3:
        raise BadRow("wrong_columns", f"expected query, passage, relevance; got {len(columns)} columns")
    query_id, passage_id, relevance = (column.strip() for column in columns)
    if not query_id or not passage_id:
        raise BadRow("empty_id", "a qrel needs a query id and a passage id")
    try:
        return query_id, passage_id, int(relevance)
    except ValueError:
        raise BadRow("bad_relevance", f"expected a whole number, got {relevance[:40]!r}") from None


def _metadata(row: dict[str, object]) -> dict[str, str] | None:
    metadata = row.get("metadata")
    if not metadata:
        return None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadRow("wrong_type", f"expected text values in 'metadata', got {metadata!r:.60}")
    return metadata
