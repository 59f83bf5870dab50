"""The passages of a retriever version on disk: Arrow, memory-mapped, looked up by position.

Legend: N results asked for, P passages.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow import schema
from winnow.errors import DataError
from winnow.files import replacing
from winnow.records import Passage, ScoredPassage

FIELDS = ("passage_id", "document_id", "title")
"""Fields that every passage has, whatever its metadata says; any other field is a key of the metadata."""

_BATCH_ROWS = 8192
"""Passages that are in memory together while the file is written."""


class PassageFile:
    """Passages by position. Nothing is read before it is asked for. Safe to share between threads."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self.batches = batches
        self._starts = [0, *accumulate(batch.num_rows for batch in batches)]
        self._starts_array = np.array(self._starts)
        self._columns = [_Columns(batch) for batch in batches]

    @classmethod
    def load(cls, path: Path) -> Self:
        """The passages in ``path``, as ``write_passages`` left them. Raises ``DataError``."""
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            # Offsets are followed without a look when cells are read, so a wrong one would crash the process.
            table.validate(full=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} is not a readable Arrow file ({error}); run `winnow index` again") from error
        return cls(schema.check_schema(table, schema.PASSAGES, where=str(path)).to_batches())

    def __len__(self) -> int:
        """P."""
        return self._starts[-1]

    def __iter__(self) -> Iterator[Passage]:
        """Every passage, in order: id, title and text."""
        for columns in self._columns:
            texts = (column.to_pylist() for column in (columns.passage_ids, columns.texts, columns.titles))
            yield from (Passage(*row) for row in zip(*texts, strict=True))

    def values(self, positions_N: NDArray[np.integer], field: str) -> list[str | None]:
        """What the passages at ``positions_N`` have in ``field``, one of ``FIELDS`` or a key of the metadata."""
        numbers_N = np.searchsorted(self._starts_array, positions_N, side="right") - 1
        rows_N = positions_N - self._starts_array[numbers_N]
        return [
            self._columns[number].value(row, field)
            for number, row in zip(numbers_N.tolist(), rows_N.tolist(), strict=True)
        ]

    def results(
        self, positions_N: NDArray[np.int64], scores_N: NDArray[np.floating], *, with_text: bool
    ) -> list[ScoredPassage]:
        """The passages at ``positions_N`` with their scores; without text, ``text`` is empty."""
        return [
            self._result(position, score, with_text)
            for position, score in zip(positions_N.tolist(), scores_N.tolist(), strict=True)
        ]

    def _result(self, position: int, score: float, with_text: bool) -> ScoredPassage:
        number = bisect_right(self._starts, position) - 1
        columns, row = self._columns[number], position - self._starts[number]
        return ScoredPassage(
            columns.passage_ids[row].as_py(),
            score,
            columns.titles[row].as_py(),
            columns.texts[row].as_py() if with_text else "",
            columns.document_ids[row].as_py(),
            columns.metadata(row),
        )


class _Columns:
    """The columns of one batch, ready to be read cell by cell.

    Arrow's ``take`` joins all batches before it takes anything: milliseconds where a cell takes half a microsecond.
    Only a map is slow to read as a cell, so its keys and values are read as texts.
    """

    __slots__ = ("_keys", "_of_field", "_offsets", "_values", "document_ids", "passage_ids", "texts", "titles")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.passage_ids, self.titles, self.texts, self.document_ids, metadata = batch.columns
        self._of_field = {name: batch.column(name) for name in FIELDS}
        self._keys, self._values = metadata.keys, metadata.items
        self._offsets = metadata.offsets.to_numpy()

    def value(self, row: int, field: str) -> str | None:
        """What ``row`` has in ``field``."""
        if (column := self._of_field.get(field)) is not None:
            return column[row].as_py()
        entries = range(*self._offsets[row : row + 2].tolist())
        return next((self._values[entry].as_py() for entry in entries if self._keys[entry].as_py() == field), None)

    def metadata(self, row: int) -> dict[str, str] | None:
        """The metadata of ``row``."""
        start, stop = self._offsets[row : row + 2].tolist()
        if start == stop:
            return None
        keys, values = (column.slice(start, stop - start).to_pylist() for column in (self._keys, self._values))
        return dict(zip(keys, values, strict=True))


def write_passages(source: Path, path: Path) -> None:
    """The ``passages`` in ``source`` (Parquet) as an Arrow file that can be memory-mapped; a batch in memory."""
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_file(file, schema.PASSAGES) as writer,
    ):
        for batch in read_batches(source):
            writer.write_batch(batch)


def read_batches(source: Path) -> Iterator[pa.RecordBatch]:
    """The ``passages`` in ``source`` (Parquet), some thousands at a time. Raises ``DataError``."""
    try:
        file = pq.ParquetFile(source, memory_map=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{source} is not a readable Parquet file ({error}); run `winnow ingest` again") from error
    with file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            table = schema.check_schema(pa.Table.from_batches([batch]), schema.PASSAGES, where=str(source))
            yield from table.to_batches()
