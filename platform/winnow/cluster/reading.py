"""Rows of Parquet files by their place: Ray hands out places, and actors read the rows themselves.

So a task is as small as the work wants it, and no task that only reads waits for a CPU beside the actors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True)
class RowRange:
    """Some rows of a row group."""

    row_group: int
    start: int
    num_rows: int


def row_ranges(path: Path, *, most: int) -> list[RowRange]:
    """All rows of ``path`` in order, at most ``most`` in a range."""
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return [
        RowRange(number, start, min(most, size - start))
        for number, size in enumerate(sizes)
        for start in range(0, size, most)
    ]


def row_places(path: Path, wanted: pa.ChunkedArray | pa.Array) -> pa.Table:
    """Where the rows of ``path`` are that are ``wanted`` (booleans, one per row): row_group, row; in order."""
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.concatenate([np.arange(size) for size in sizes]) if sizes else groups
    return pa.table({"row_group": groups, "row": rows}).filter(wanted)


class RowReader:
    """Reads rows of one file. The last row group is held, as the next rows are mostly in there."""

    def __init__(self, path: Path, *, columns: Sequence[str] | None = None) -> None:
        self._path = path
        self._columns = columns
        self._held: tuple[int, pa.Table] | None = None

    def read(self, rows: RowRange) -> pa.Table:
        """The rows of the range."""
        return self._row_group(rows.row_group).slice(rows.start, rows.num_rows)

    def take(self, places: pa.Table) -> pa.Table:
        """The rows at ``places`` (columns row_group, row), sorted by row group."""
        return pa.concat_tables(
            self._row_group(number).take(places.filter(pc.equal(places["row_group"], number))["row"])
            for number in places["row_group"].unique().to_pylist()
        )

    def _row_group(self, number: int) -> pa.Table:
        held = self._held  # another thread may replace it
        if held is None or held[0] != number:
            with pq.ParquetFile(self._path) as file:
                held = number, file.read_row_group(number, columns=self._columns and list(self._columns))
            self._held = held
        return held[1]
