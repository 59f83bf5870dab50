"""Parquet files as streams of blocks that fit a small object store."""

from collections.abc import Callable, Sequence
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
