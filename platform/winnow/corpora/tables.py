"""Rows of tables: Parquet files, and datasets that Hugging Face's ``datasets`` saved in a folder."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.corpora.layouts import Layout
from winnow.corpora.raw import RawRow
from winnow.errors import DataError

_STATE = "state.json"
_ROWS = 1024
"""Rows that are turned into Python values together."""


def parquet_rows(path: Path, layout: Layout) -> Iterator[RawRow]:
    """The rows of a Parquet file, whose columns are found by name."""
    try:
        file = pq.ParquetFile(path)
        columns = _columns(file.schema_arrow, layout, path)
        yield from _rows(file.iter_batches(batch_size=_ROWS, columns=columns), columns, layout, start=0)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file ({error}); copy or write it again") from error


def is_dataset(path: Path) -> bool:
    """Whether ``path`` is a folder that ``save_to_disk`` wrote."""
    return (path / _STATE).is_file() or (path / "dataset_dict.json").is_file()


def dataset_rows(folder: Path, layout: Layout) -> Iterator[RawRow]:
    """The rows of a saved dataset, in the order of its files."""
    if not (folder / _STATE).is_file():
        splits = sorted(part.name for part in folder.iterdir() if (part / _STATE).is_file())
        raise DataError(
            f"{folder} holds several splits; give the folder of one, such as {folder}/{(*splits, '...')[0]}"
        )
    try:
        names = [part["filename"] for part in json.loads((folder / _STATE).read_text())["_data_files"]]
        number = 0
        for name in names:
            with pa.memory_map(str(folder / name)) as source, pa.ipc.open_stream(source) as stream:
                for row in _rows(stream, _columns(stream.schema, layout, folder), layout, start=number):
                    number = row.number
                    yield row
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{folder} is no readable saved dataset ({error}); save it again with save_to_disk") from error


def _columns(schema: pa.Schema, layout: Layout, path: Path) -> list[str]:
    """The columns that are read."""
    layout.check(layout.positions(schema.names), schema.names, path=path)
    return layout.known(schema.names)


def _rows(batches: Iterable[pa.RecordBatch], columns: Sequence[str], layout: Layout, *, start: int) -> Iterator[RawRow]:
    number = start
    for batch in batches:
        for row in batch.select(columns).to_pylist():
            number += 1
            yield RawRow(number, row, layout.named(row))
