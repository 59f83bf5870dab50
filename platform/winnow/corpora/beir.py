"""Passages, queries and judged pairs out of the fields that BEIR gives them, in any of the formats."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from winnow.corpora.layouts import PASSAGES, QRELS, QUERIES
from winnow.corpora.raw import BadRow
from winnow.corpora.reading import Reading, checked_text, id_field, json_text, read_rows, text_field
from winnow.records import Passage, Query

Qrel = tuple[str, str, int]
"""Query id, passage id, relevance."""
_GRADES = range(-(2**31), 2**31)


def read_corpus(path: Path) -> Reading[Passage]:
    """The passages in ``path``: ``_id``, ``text``, and where there are any ``title``, ``document_id``, ``metadata``."""
    return read_rows(path, PASSAGES, _passage, key=lambda passage: passage.passage_id)


def read_queries(path: Path) -> Reading[Query]:
    """The queries in ``path``: ``_id`` and ``text``, and ``answers`` where there are any."""
    return read_rows(path, QUERIES, _query, key=lambda query: query.query_id)


def read_qrels(path: Path) -> Reading[Qrel]:
    """The judged pairs in ``path``: columns by their header, or three, or TREC's four."""
    return read_rows(path, QRELS, _qrel, key=lambda qrel: qrel[:2])


def _passage(row: Mapping[str, Any]) -> Passage:
    passage_id = id_field(row)
    text = text_field(row, "text")
    if not text:
        raise BadRow("empty_text", f"passage {passage_id!r} has no text")
    document_id = id_field(row, "document_id") if row.get("document_id") not in (None, "") else None
    return Passage(passage_id, text, text_field(row, "title", default=""), document_id, _metadata(row))


def _query(row: Mapping[str, Any]) -> Query:
    query_id = id_field(row)
    text = text_field(row, "text")
    if not text:
        raise BadRow("empty_text", f"query {query_id!r} has no text")
    answers = row.get("answers") or []
    if not isinstance(answers, list):
        raise BadRow("wrong_type", f"expected a list of strings in 'answers', got {answers!r:.60}")
    return Query(query_id, text, tuple(checked_text(answer, "answers") for answer in answers if answer is not None))


def _qrel(row: Mapping[str, Any]) -> Qrel:
    return id_field(row, "query-id"), id_field(row, "corpus-id"), _grade(row.get("score"))


def _grade(value: Any) -> int:
    """A whole number, also one written as ``1.0``."""
    try:
        number = float(value.strip() if isinstance(value, str) else value)
        grade = int(number) if math.isfinite(number) and number.is_integer() else None
    except (TypeError, ValueError, OverflowError):
        grade = None
    if grade is None or grade not in _GRADES:
        raise BadRow("bad_relevance", f"expected a whole number of at most 32 bits, got {value!r:.40}")
    return grade


def _metadata(row: Mapping[str, Any]) -> dict[str, str] | None:
    metadata = row.get("metadata") or {}
    if isinstance(metadata, list):  # Arrow's maps come as pairs
        metadata = dict(metadata) if all(isinstance(pair, tuple) for pair in metadata) else None
    if not isinstance(metadata, dict):
        raise BadRow("wrong_type", f"expected an object in 'metadata', got {metadata!r:.60}")
    known = {json_text(key, "metadata"): value for key, value in metadata.items() if value is not None}
    return {key: json_text(value, f"metadata.{key}") for key, value in known.items()} or None
