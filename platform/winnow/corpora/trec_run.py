"""Ranked lists in a TREC or MS MARCO run file, read one query at a time: the file may be larger than memory.

A first scan checks every line and remembers where each query's lines stand. Lines in = lines kept +
lines rejected, as in ``reading.py``; blank lines are neither.
"""

import math
from array import array
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from winnow.corpora.opening import opened, unpacked
from winnow.corpora.raw import BadRow, decoded, is_blank, shown
from winnow.corpora.reading import rejected
from winnow.errors import DataError
from winnow.records import RejectedRow, ScoredPassage


@dataclass(frozen=True, slots=True)
class _Form:
    """Where the columns of a run stand."""

    columns: str
    width: int
    passage: int
    rank: int
    score: int | None


_FORMS = {
    form.width: form
    for form in (
        _Form("query-id Q0 passage-id rank score tag", 6, 2, 3, 4),
        _Form("query-id passage-id rank", 3, 1, 2, None),
        _Form("query-id passage-id rank score", 4, 1, 2, 3),
    )
}
"""TREC's and the two of MS MARCO, by the number of columns."""


@dataclass(frozen=True, slots=True)
class _Row:
    query_id: str
    passage_id: str
    rank: int
    score: float


@dataclass
class _Ranges:
    """Where each query's lines start and end, in bytes; in arrays, as there may be millions of queries."""

    number: dict[str, int] = field(default_factory=dict)
    start: array = field(default_factory=lambda: array("q"))
    end: array = field(default_factory=lambda: array("q"))


class TrecRun:
    """The ranked lists of a run file. Made by ``scan_run``."""

    def __init__(self, path: Path, ranges: _Ranges, form: _Form, passage_ids: Set[str], num_rows: int) -> None:
        self._path = path
        self._form = form
        self._ranges = ranges
        self._passage_ids = passage_ids
        self.num_rows = num_rows
        """Lines that can be used."""

    @property
    def num_queries(self) -> int:
        """Queries that have a list."""
        return len(self._ranges.number)

    def search(self, query_ids: Sequence[str], depth: int | None = None) -> list[list[ScoredPassage]]:
        """The first ``depth`` passages of each query, or all, by rank, then score, then id; none where the file has
        none."""
        with self._path.open("rb") as file:
            return [self._ranked(file, query_id)[:depth] for query_id in query_ids]

    def _ranked(self, file: BinaryIO, query_id: str) -> list[ScoredPassage]:
        number = self._ranges.number.get(query_id)
        if number is None:
            return []
        start, end = self._ranges.start[number], self._ranges.end[number]
        file.seek(start)
        rows = self._rows(query_id, file.read(end - start))
        ranked = sorted(rows, key=lambda row: (row.rank, -row.score, row.passage_id))
        return [ScoredPassage(row.passage_id, row.score) for row in ranked]

    def _rows(self, query_id: str, lines: bytes) -> Iterator[_Row]:
        """The rows that the scan kept, of one query's range, in which rejected lines may stand too."""
        seen: set[str] = set()
        for raw in lines.split(b"\n"):
            try:
                row = _parse(raw, self._form)
            except BadRow:
                continue  # counted by the scan
            if row.query_id == query_id and row.passage_id in self._passage_ids and row.passage_id not in seen:
                seen.add(row.passage_id)
                yield row


def scan_run(
    path: Path, *, query_ids: Set[str], passage_ids: Set[str], reject: Callable[[RejectedRow], None], unpack_to: Path
) -> TrecRun:
    """The run in ``path``. Each line that cannot be used is given to ``reject``.

    Lists are read by offset, so a compressed file is unpacked into ``unpack_to``, which has to last as long as the
    result. Raises ``DataError`` if the lines of a query do not stand together.
    """
    scan = _Scan(path, query_ids, passage_ids)
    plain = unpacked(path, unpack_to)
    with opened(plain) as file:
        offset = 0
        for number, raw in enumerate(file, start=1):
            try:
                scan.take(raw, offset, number)
            except BadRow as bad:
                reject(rejected(path, number, bad, shown(raw)))
            offset += len(raw)
    return TrecRun(plain, scan.ranges, scan.form, passage_ids, scan.num_rows)


class _Scan:
    """Checks lines in the order of the file and remembers the ranges of known queries."""

    def __init__(self, path: Path, query_ids: Set[str], passage_ids: Set[str]) -> None:
        self.ranges = _Ranges()
        self.num_rows = 0
        self.form = _FORMS[6]
        self._is_form_known = False
        self._path = path
        self._query_ids = query_ids
        self._passage_ids = passage_ids
        self._current: str | None = None
        self._seen: set[str] = set()

    def take(self, raw: bytes, offset: int, number: int) -> None:
        """Remember one line. Raises ``BadRow`` if it cannot be used."""
        if is_blank(raw):
            return
        row = self._row(raw)
        if row.query_id not in self._query_ids:
            raise BadRow("unknown_query", f"query {row.query_id!r} is not among the questions")
        if row.query_id != self._current:
            self._begin(row.query_id, offset, number)
        self.ranges.end[-1] = offset + len(raw)
        if row.passage_id not in self._passage_ids:
            raise BadRow(
                "unknown_passage", f"passage {row.passage_id!r} of query {row.query_id!r} is not in the corpus"
            )
        if row.passage_id in self._seen:
            raise BadRow("duplicate_id", f"passage {row.passage_id!r} of {row.query_id!r} was seen before")
        self._seen.add(row.passage_id)
        self.num_rows += 1

    def _row(self, raw: bytes) -> _Row:
        """The row of a line. The first line that is one decides on the form of all."""
        if self._is_form_known:
            return _parse(raw, self.form)
        form = _FORMS.get(len(_columns(raw)), self.form)
        row = _parse(raw, form)
        self.form, self._is_form_known = form, True
        return row

    def _begin(self, query_id: str, offset: int, number: int) -> None:
        if query_id in self.ranges.number:
            raise DataError(
                f"{self._path}, line {number}: query {query_id!r} comes up again after other queries; the lines of a "
                f"query must stand together: sort the file, such as with `sort -s -k1,1 run.txt > sorted.txt`"
            )
        self.ranges.number[query_id] = len(self.ranges.number)
        self.ranges.start.append(offset)
        self.ranges.end.append(offset)
        self._current = query_id
        self._seen = set()


def _columns(raw: bytes) -> list[str]:
    line = decoded(raw).strip()
    return [column.strip() for column in (line.split("\t") if "\t" in line else line.split())]


def _parse(raw: bytes, form: _Form) -> _Row:
    columns = _columns(raw)
    if len(columns) != form.width:
        raise BadRow("wrong_columns", f"expected {form.columns}; got {len(columns)} columns")
    query_id, passage_id, rank = columns[0], columns[form.passage], _rank(columns[form.rank])
    if not query_id or not passage_id:
        raise BadRow("empty_id", "a line of a run needs a query id and a passage id")
    # Lists of three columns have no score; one that falls with the rank takes its place.
    score = 1 / max(rank, 1) if form.score is None else _score(columns[form.score])
    return _Row(query_id, passage_id, rank, score)


def _rank(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadRow("wrong_type", f"expected a whole number as rank, got {text[:40]!r}") from None


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise BadRow("wrong_type", f"expected a finite number as score, got {text[:40]!r}")
    return score
