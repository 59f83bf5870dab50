"""Parquet files as streams of blocks that fit a small object store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray


def read_row_groups(
    path: Path, *, columns: Sequence[str] | None = None, keep: Callable[[pa.Table], pa.Table] | None = None
) -> ray.data.Dataset:
    """The rows of ``path``, a block per row group, of which ``keep`` may leave some out.

    A task reads one row group. Ray's own reader makes blocks of 128 MB, which a small object store cannot hold.
    """
    with pq.ParquetFile(path) as file:
        num_row_groups = file.num_row_groups
    return ray.data.range(num_row_groups, override_num_blocks=num_row_groups).map_batches(
        _read,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"path": str(path.absolute()), "columns": columns, "keep": keep},
    )


def _read(
    row_groups: pa.Table, path: str, columns: Sequence[str] | None, keep: Callable[[pa.Table], pa.Table] | None
) -> pa.Table:
    with pq.ParquetFile(path) as file:
        rows = file.read_row_groups(row_groups["id"].to_pylist(), columns=columns)
    return rows if keep is None else keep(rows)


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


class RangeReader:
    """Reads ranges of one file. The row group of the last one is held, as the next is mostly in there."""

    def __init__(self, path: Path, *, columns: Sequence[str]) -> None:
        self._path = path
        self._columns = columns
        self._held: tuple[int, pa.Table] | None = None

    def read(self, rows: RowRange) -> pa.Table:
        """The rows of the range."""
        if self._held is None or self._held[0] != rows.row_group:
            with pq.ParquetFile(self._path) as file:
                self._held = rows.row_group, file.read_row_group(rows.row_group, columns=list(self._columns))
        return self._held[1].slice(rows.start, rows.num_rows)
