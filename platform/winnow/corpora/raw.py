"""What a reader of a file format yields: rows with their place in the file, and why a row cannot be used."""

from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Any

REASONS = {
    "invalid_utf8": "the line is not valid UTF-8",
    "malformed_json": "the line is not JSON",
    "malformed_csv": "the line is not CSV",
    "open_quote": "a quote is not closed in its line",
    "not_an_object": "the line is JSON, but not an object",
    "missing_field": "a required field is missing",
    "wrong_type": "a field has the wrong type",
    "empty_id": "the id is empty",
    "empty_text": "the text is empty",
    "duplicate_id": "the id was seen before; the first row is kept",
    "wrong_columns": "the line has another number of columns",
    "bad_relevance": "the relevance is not a whole number of 32 bits",
    "unknown_query": "the query id is not among the queries",
    "unknown_passage": "the passage id is not in the corpus",
}


class BadRow(Exception):
    """A row that cannot be used, with its reason code."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in a file: its fields by name, or why it has none."""

    number: int
    """Its line; of a format without lines, its place among the rows. The first is 1."""
    raw: Any
    """As the reader found it: a line, cells, or a record."""
    fields: dict[str, Any] | BadRow


def is_blank(line: bytes) -> bool:
    """Whether there is nothing in ``line``; a byte order mark is nothing."""
    return not line.removeprefix(BOM_UTF8).strip()


def decoded(line: bytes) -> str:
    """``line`` as text, without a byte order mark. Raises ``BadRow``."""
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow("invalid_utf8", f"byte {error.start} of the line is not UTF-8; convert the file") from None


def shown(raw: Any) -> str:
    """A row as the reader found it, as far as it can be read as text."""
    if isinstance(raw, bytes):
        return raw.decode("utf-8", errors="replace").strip()
    return ",".join(raw) if isinstance(raw, list) else str(raw)
