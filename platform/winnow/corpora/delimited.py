"""Rows of text files with columns: tabs, spaces where a layout allows them, or CSV."""

import csv
import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from winnow.corpora.layouts import Layout
from winnow.corpora.raw import BadRow, RawRow, decoded, is_blank

_NESTED = ("answers", "metadata")
"""Columns whose cells hold JSON."""


def delimited_rows(file: BinaryIO, layout: Layout, *, path: object) -> Iterator[RawRow]:
    """A row per line. Columns are found by the header; without one, by how many the first line has."""
    columns = _Columns(layout, path)
    for number, line in enumerate(file, start=1):
        if is_blank(line):
            continue
        try:
            text = decoded(line).rstrip("\r\n")
            cells = text.split("\t") if "\t" in text or not layout.spaces else text.split()
            fields: dict[str, Any] | BadRow | None = columns.fields(cells)
        except BadRow as bad:
            fields = bad
        if fields is not None:
            yield RawRow(number, line, fields)


def csv_rows(file: BinaryIO, layout: Layout, *, path: object) -> Iterator[RawRow]:
    """A row per record of a CSV file, which needs a header."""
    csv.field_size_limit(2**31 - 1)
    # What is not UTF-8 becomes a lone surrogate, which no field may hold.
    lines = (line.removeprefix(BOM_UTF8).decode("utf-8", errors="surrogateescape") for line in file)
    reader = csv.reader(lines, strict=True)
    columns = _Columns(layout, path, needs_header=True)
    while True:
        cells: Sequence[str] = ()
        try:
            cells = next(reader)
            fields: dict[str, Any] | BadRow | None = columns.fields(cells) if any(map(str.strip, cells)) else None
        except StopIteration:
            return
        except csv.Error as error:
            fields = BadRow("malformed_csv", f"expected a CSV record ({error})")
        except BadRow as bad:
            fields = bad
        if fields is not None:
            yield RawRow(reader.line_num, list(cells), fields)


class _Columns:
    """Which cell is which field, decided on the first row."""

    def __init__(self, layout: Layout, path: object, *, needs_header: bool = False) -> None:
        self._layout, self._path, self._needs_header = layout, path, needs_header
        self._places: Mapping[str, int] = {}
        self._has_header = False
        self._width = 0

    def fields(self, cells: Sequence[str]) -> dict[str, Any] | None:
        """The fields of a row; ``None`` for the header. Raises ``BadRow``, or ``DataError`` for the file."""
        if not self._width:
            return self._begin(cells)
        if len(cells) != self._width:
            raise BadRow("wrong_columns", f"expected {self._width} columns, got {len(cells)}")
        fields: dict[str, Any] = {name: self._cell(cells[place]) for name, place in self._places.items()}
        return {**fields, **{name: _nested(name, fields[name]) for name in _NESTED if name in fields}}

    def _begin(self, cells: Sequence[str]) -> dict[str, Any] | None:
        header = self._layout.header(cells, path=self._path)
        if header is None and self._needs_header:
            self._layout.check({}, cells, path=self._path)
        self._has_header = header is not None
        self._places = header if header is not None else self._layout.counted(len(cells), path=self._path)
        self._width = len(cells)
        return None if header is not None else self.fields(cells)

    def _cell(self, cell: str) -> str:
        # Who writes a header quotes as CSV does; a raw file's quotes are part of its text.
        if not self._has_header or self._needs_header or not cell.startswith('"'):
            return cell
        if cell.count('"') % 2:
            raise BadRow(
                "open_quote", f"{cell[:40]!r} opens a quote that its line does not close; write such rows as JSON lines"
            )
        inside = cell[1:-1].replace('""', "\0")
        return inside.replace("\0", '"') if cell.endswith('"') and '"' not in inside else cell


def _nested(name: str, cell: str) -> object:
    if not cell.strip():
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        raise BadRow("wrong_type", f"expected JSON in column {name!r}, got {cell[:40]!r}") from None
