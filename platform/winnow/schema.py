"""Columns of every dataset on disk, and the one way to read and write them.

Parquet, string ids; the schema version and the producing step's fingerprint are in the file metadata.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.errors import DataError
from winnow.files import replacing

SCHEMA_VERSION = "1"

_text = pa.string()


def _required(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=False)


_finding = pa.struct([_required("source", _text), _required("rank", pa.int32()), ("score", pa.float32())])
_candidate = pa.struct(
    [
        _required("passage_id", _text),
        _required("title", _text),
        _required("text", _text),
        _required("found_by", pa.list_(_finding)),
        ("human_label", pa.int32()),
    ]
)
_labelled = pa.struct(
    [
        _required("passage_id", _text),
        _required("source", _text),
        ("weight", pa.float32()),
        ("utility_score", pa.float32()),
    ]
)
_judge_key = [_required("query_id", _text), _required("pool_id", _text), _required("judge_id", _text)]

PASSAGES = pa.schema(
    [
        _required("passage_id", _text),
        _required("title", _text),
        _required("text", _text),
        ("document_id", _text),
        ("metadata", pa.map_(_text, _text)),
    ]
)
CORPUS = pa.schema([*PASSAGES, _required("text_hash", _text)])
"""Passages as ``ingest`` stores them; equal hashes are equal texts. Whatever reads ``PASSAGES`` reads these, too."""
QUERIES = pa.schema([_required("query_id", _text), _required("query", _text), ("answers", pa.list_(_text))])
CANDIDATE_POOLS = pa.schema(
    [
        _required("query_id", _text),
        _required("query", _text),
        _required("pool_id", _text),
        _required("passages", pa.list_(_candidate)),
        ("answers", pa.list_(_text)),
    ]
)
JUDGED_QUERIES = pa.schema(
    [
        *_judge_key,
        _required("status", _text),
        ("detail", _text),
        _required("attempts", pa.int32()),
        ("pseudo_answer", _text),
        _required("passages_cut", pa.int32()),
    ]
)
JUDGMENTS = pa.schema(
    [
        _required("query_id", _text),
        _required("passage_id", _text),
        _required("pool_id", _text),
        _required("judge_id", _text),
        ("is_relevant", pa.bool_()),
        ("is_useful", pa.bool_()),
        ("utility_rank", pa.int32()),
        ("utility_score", pa.float64()),
        ("position", pa.int32()),
    ]
)
JUDGE_TRACES = pa.schema(
    [
        *_judge_key,
        _required("round", _text),
        ("window", pa.int32()),
        _required("attempt", pa.int32()),
        ("passage_id", _text),
        _required("prompt_sha", _text),
        ("reply", _text),
        ("reasoning", _text),
        _required("finish_reason", _text),
        _required("prompt_tokens", pa.int64()),
        _required("cached_tokens", pa.int64()),
        _required("output_tokens", pa.int64()),
        _required("seconds", pa.float64()),
    ]
)
TRAINING_EXAMPLES = pa.schema(
    [
        _required("query_id", _text),
        _required("query", _text),
        _required("stage", _text),
        _required("positives", pa.list_(_labelled)),
        _required("negatives", pa.list_(_labelled)),
        _required("withheld", pa.list_(_labelled)),
    ]
)
RUN = pa.schema(
    [
        _required("query_id", _text),
        _required("passage_id", _text),
        _required("rank", pa.int32()),
        _required("score", pa.float64()),
    ]
)
QRELS = pa.schema([_required("query_id", _text), _required("passage_id", _text), _required("relevance", pa.int32())])


def embeddings(dimension: int) -> pa.Schema:
    """The schema of ``embeddings`` with vectors of ``dimension`` float32 values."""
    return pa.schema([_required("passage_id", _text), _required("embedding", pa.list_(pa.float32(), dimension))])


def to_table(rows: Iterable[Any], schema: pa.Schema) -> pa.Table:
    """``rows`` (records or mappings) as a table; fields that the schema lacks are left out."""
    plain = [asdict(row) if is_dataclass(row) else dict(row) for row in rows]
    return pa.Table.from_pylist(plain, schema=schema)


_ROW_GROUP_ROWS = 8192
"""Some megabytes of passages: what is read, and held, together when a dataset is streamed."""


def write_dataset(
    path: Path, table: pa.Table, *, fingerprint: str = "", notes: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """``path``, written whole or not at all; ``notes`` go into its metadata."""
    described = table.replace_schema_metadata({**_metadata(fingerprint), **notes})
    with replacing(path) as temporary:
        pq.write_table(described, temporary, row_group_size=_ROW_GROUP_ROWS)
    return path


@contextmanager
def writing_dataset(path: Path, schema: pa.Schema, *, fingerprint: str = "") -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends a table to ``path`` as one row group; the file appears when the block ends well."""
    described = schema.with_metadata(_metadata(fingerprint))
    with replacing(path) as temporary, pq.ParquetWriter(temporary, described) as writer:
        yield lambda table: writer.write_table(table.cast(described))


def _metadata(fingerprint: str) -> dict[str, str]:
    return {"winnow_schema_version": SCHEMA_VERSION, "winnow_fingerprint": fingerprint}


def read_dataset(path: Path, schema: pa.Schema) -> pa.Table:
    """The table in ``path`` with the columns of ``schema``. Raises ``DataError``."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"no dataset at {str(path)!r}; run the step that writes it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}); delete it and run its step again") from error
    return check_schema(table, schema, where=str(path))


def check_schema(table: pa.Table, schema: pa.Schema, *, where: str) -> pa.Table:
    """``table`` cast to ``schema``. Raises ``DataError`` that names the column.

    A nullable column that is not there is null: it was added after the file was written.
    """
    absent = [field for field in schema if field.name not in table.column_names]
    missing = [field.name for field in absent if not field.nullable]
    if missing:
        raise DataError(f"{where} lacks the columns {missing}; it has {table.column_names}")
    for field in absent:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{where} does not fit its schema: {error}") from error
