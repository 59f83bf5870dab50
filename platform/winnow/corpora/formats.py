"""The one place that knows which reader reads which input file."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from winnow.corpora.delimited import csv_rows, delimited_rows
from winnow.corpora.json_rows import json_rows
from winnow.corpora.layouts import Layout
from winnow.corpora.opening import check_readable, opened
from winnow.corpora.raw import RawRow
from winnow.corpora.tables import dataset_rows, is_dataset, parquet_rows

_PACKED = (".gz", ".gzip", ".zst", ".zstd")
_JSON = (".jsonl", ".json", ".ndjson")
_DELIMITED = (".tsv", ".tab", ".trec", ".qrels", ".qrel")


@contextmanager
def rows_of(path: Path, layout: Layout) -> Iterator[Iterator[RawRow]]:
    """The rows of ``path``, in whichever format it is. Raises ``DataError`` if it is in none."""
    check_readable(path)
    if is_dataset(path):
        yield dataset_rows(path, layout)
        return
    with opened(path) as file:
        start = file.peek(512)[:512].removeprefix(BOM_UTF8).lstrip()
        suffix = _suffix(path)
        if start.startswith(b"PAR1"):
            yield parquet_rows(path, layout)
        elif suffix in _JSON or (suffix not in (*_DELIMITED, ".csv") and start.startswith((b"{", b"["))):
            yield json_rows(file, layout)
        elif suffix == ".csv":
            yield csv_rows(file, layout, path=path)
        else:
            yield delimited_rows(file, layout, path=path)


def _suffix(path: Path) -> str:
    """What the name says of the content: the ending before that of a compression."""
    name = Path(path.stem) if path.suffix.lower() in _PACKED else path
    return name.suffix.lower()
