"""Ranked lists in a TREC run file, read one query at a time: the file may be larger than memory.

A first scan checks every line and remembers where each query's lines stand. Lines in = lines kept +
lines rejected, as in ``reading.py``; blank lines are neither.
"""

import math
from array import array
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from winnow.corpora.reading import BadRow
from winnow.errors import DataError
from winnow.records import RejectedRow, ScoredPassage

_COLUMNS = "query-id Q0 passage-id rank score tag"
_LONGEST_RAW = 500


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

    def __init__(self, path: Path, ranges: _Ranges, passage_ids: Set[str], num_rows: int) -> None:
        self._path = path
        self._ranges = ranges
        self._passage_ids = passage_ids
        self.num_rows = num_rows
        """Lines that can be used."""

    @property
    def num_queries(self) -> int:
        """Queries that have a list."""
        return len(self._ranges.number)

    def search(self, query_ids: Sequence[str], depth: int) -> list[list[ScoredPassage]]:
        """The first ``depth`` passages of each query, by rank, then score, then id; none where the file has none."""
        with _opened(self._path) as file:
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
                row = _parse(raw)
            except BadRow:
                continue  # counted by the scan
            if row.query_id == query_id and row.passage_id in self._passage_ids and row.passage_id not in seen:
                seen.add(row.passage_id)
                yield row


def scan_run(
    path: Path, *, query_ids: Set[str], passage_ids: Set[str], reject: Callable[[RejectedRow], None]
) -> TrecRun:
    """The run in ``path``. Each line that cannot be used is given to ``reject``.

    Raises ``DataError`` if the lines of a query do not stand together.
    """
    scan = _Scan(path, query_ids, passage_ids)
    with _opened(path) as file:
        offset = 0
        for number, raw in enumerate(file, start=1):
            try:
                scan.take(raw, offset, number)
            except BadRow as bad:
                text = raw.decode("utf-8", errors="replace").strip()
                reject(RejectedRow(str(path), number, bad.reason, bad.detail, text[:_LONGEST_RAW]))
            offset += len(raw)
    return TrecRun(path, scan.ranges, passage_ids, scan.num_rows)


class _Scan:
    """Checks lines in the order of the file and remembers the ranges of known queries."""

    def __init__(self, path: Path, query_ids: Set[str], passage_ids: Set[str]) -> None:
        self.ranges = _Ranges()
        self.num_rows = 0
        self._path = path
        self._query_ids = query_ids
        self._passage_ids = passage_ids
        self._current: str | None = None
        self._seen: set[str] = set()

    def take(self, raw: bytes, offset: int, number: int) -> None:
        """Remember one line. Raises ``BadRow`` if it cannot be used."""
        if not raw.strip():
            return
        row = _parse(raw)
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


def _parse(raw: bytes) -> _Row:
    try:
        line = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadRow("invalid_utf8", f"byte {error.start} of the line is not UTF-8; convert the file") from None
    columns = line.split("\t") if "\t" in line else line.split()
    if len(columns) != 6:
        raise BadRow("wrong_columns", f"expected {_COLUMNS}; got {len(columns)} columns")
    query_id, _, passage_id, rank, score, _ = (column.strip() for column in columns)
    if not query_id or not passage_id:
        raise BadRow("empty_id", "a line of a run needs a query id and a passage id")
    return _Row(query_id, passage_id, _rank(rank), _score(score))


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


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"no file at {str(path)!r}; correct the path of the `trec_run` source") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    with file:
        yield file
