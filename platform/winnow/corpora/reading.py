"""Lines of files from outside, one at a time: a good row or a rejected one, never an exception.

Rows in = rows kept + rows rejected. Reasons are a closed set, so that reports can count them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from winnow.errors import DataError
from winnow.records import RejectedRow

RowT = TypeVar("RowT")

REASONS = {
    "invalid_utf8": "the line is not valid UTF-8",
    "malformed_json": "the line is not JSON",
    "not_an_object": "the line is JSON, but not an object",
    "missing_field": "a required field is missing",
    "wrong_type": "a field has the wrong type",
    "empty_id": "the id is empty",
    "empty_text": "the text is empty",
    "duplicate_id": "the id was seen before; the first row is kept",
    "wrong_columns": "the line has another number of columns",
    "bad_relevance": "the relevance is not a whole number",
    "unknown_query": "the query id is not among the queries",
    "unknown_passage": "the passage id is not in the corpus",
}


class BadRow(Exception):
    """A row that cannot be used, with its reason code."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass
class Reading(Generic[RowT]):
    """The rows of a file that can be used, and those that cannot."""

    rows: list[RowT] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)

    def reasons(self) -> Counter[str]:
        """How many rows were rejected, by reason."""
        return Counter(row.reason for row in self.rejected)


def read_rows(path: Path, parse: Callable[[str], RowT], *, key: Callable[[RowT], Any], skip: int = 0) -> Reading[RowT]:
    """Every line of ``path`` through ``parse``, which raises ``BadRow``; a repeated ``key`` is rejected too."""
    reading: Reading[RowT] = Reading()
    seen: set[Any] = set()
    for number, raw in enumerate(_lines(path), start=1):
        if number <= skip or not raw.strip():
            continue
        try:
            row = parse(_decode(raw))
            if key(row) in seen:
                raise BadRow("duplicate_id", f"{key(row)!r} was seen before")
        except BadRow as bad:
            text = raw.decode("utf-8", errors="replace").strip()
            reading.rejected.append(RejectedRow(str(path), number, bad.reason, bad.detail, text[:500]))
            continue
        seen.add(key(row))
        reading.rows.append(row)
    return reading


def first_line(path: Path) -> str:
    """The first line of ``path``, as far as it can be read as text."""
    return next(_lines(path), b"").decode("utf-8", errors="replace").strip()


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object in ``line``. Raises ``BadRow``."""
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadRow("malformed_json", f"expected a JSON object ({error})") from None
    if not isinstance(value, dict):
        raise BadRow("not_an_object", f"expected a JSON object, got {type(value).__name__}")
    return value


def text_field(row: dict[str, Any], name: str, *, default: str | None = None) -> str:
    """The string under ``name``. Raises ``BadRow`` if it is missing, or is not a string."""
    value = row.get(name, default)
    if value is None:
        raise BadRow("missing_field", f"expected a field {name!r}, got {sorted(row)}")
    if not isinstance(value, str):
        raise BadRow("wrong_type", f"expected a string in {name!r}, got {value!r:.60}")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRow("invalid_utf8", f"{name!r} holds a NUL or a lone surrogate, which no text file can store")
    return value.strip()


def id_field(row: dict[str, Any], name: str = "_id") -> str:
    """The id under ``name``; whole numbers are read as text. Raises ``BadRow``."""
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    identifier = text_field({**row, name: value}, name)
    if not identifier:
        raise BadRow("empty_id", f"{name!r} is empty; every row needs an id")
    return identifier


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        raise DataError(f"no file at {str(path)!r}; correct the path in the `data` section") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow("invalid_utf8", f"byte {error.start} of the line is not UTF-8; convert the file") from None
