"""Rows of files from outside, one at a time: a good row or a rejected one, never an exception.

Rows in = rows kept + rows rejected. Reasons are a closed set, so that reports can count them.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from winnow.corpora.formats import rows_of
from winnow.corpora.layouts import Layout
from winnow.corpora.raw import BadRow, shown
from winnow.records import RejectedRow

RowT = TypeVar("RowT")
_LONGEST_RAW = 500
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass
class Reading(Generic[RowT]):
    """The rows of a file that can be used, and those that cannot."""

    rows: list[RowT] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)

    def reasons(self) -> Counter[str]:
        """How many rows were rejected, by reason."""
        return Counter(row.reason for row in self.rejected)


def read_rows(
    path: Path, layout: Layout, parse: Callable[[Mapping[str, Any]], RowT], *, key: Callable[[RowT], Any]
) -> Reading[RowT]:
    """Every row of ``path`` through ``parse``, which raises ``BadRow``; a repeated ``key`` is rejected too."""
    reading: Reading[RowT] = Reading()
    seen: set[Any] = set()
    with rows_of(path, layout) as rows:
        for raw in rows:
            try:
                if isinstance(raw.fields, BadRow):
                    raise raw.fields
                row = parse(raw.fields)
                if key(row) in seen:
                    raise BadRow("duplicate_id", f"{key(row)!r} was seen before")
            except BadRow as bad:
                reading.rejected.append(rejected(path, raw.number, bad, shown(raw.raw)))
                continue
            seen.add(key(row))
            reading.rows.append(row)
    return reading


def rejected(path: Path, number: int, bad: BadRow, text: str) -> RejectedRow:
    """A row that cannot be used, as quarantine keeps it: in text that any file can store."""
    return RejectedRow(storable(str(path)), number, bad.reason, storable(bad.detail), storable(text[:_LONGEST_RAW]))


def storable(text: str) -> str:
    """``text`` with a question mark for each lone surrogate."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def text_field(row: Mapping[str, Any], name: str, *, default: str | None = None) -> str:
    """The string under ``name``. Raises ``BadRow`` if it is missing, or is not a string."""
    value = row.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        raise BadRow("missing_field", f"expected a field {name!r}, got {sorted(row)}")
    return checked_text(value, name).strip()


def id_field(row: Mapping[str, Any], name: str = "_id") -> str:
    """The id under ``name``; whole numbers are read as text. Raises ``BadRow``."""
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    identifier = text_field(row, name) if value is None else checked_text(value, name).strip()
    if not identifier:
        raise BadRow("empty_id", f"{name!r} is empty; every row needs an id")
    return identifier


def json_text(value: Any, name: str) -> str:
    """A string as it is; numbers, booleans, lists and objects as JSON text. Raises ``BadRow``."""
    if isinstance(value, str):
        return checked_text(value, name)
    try:
        return checked_text(json.dumps(value, ensure_ascii=False), name)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRow("wrong_type", f"expected text, a number, a boolean or a list in {name!r} ({error})") from None


def checked_text(value: Any, name: str) -> str:
    """``value`` if it is text that a file can store. Raises ``BadRow``."""
    if not isinstance(value, str):
        raise BadRow("wrong_type", f"expected a string in {name!r}, got {value!r:.60}")
    if _UNSTORABLE.search(value):
        raise BadRow("invalid_utf8", f"{name!r} holds a NUL or a lone surrogate, which no text file can store")
    return value
