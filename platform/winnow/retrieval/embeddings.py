"""Embeddings on disk: the dataset ``embeddings``, written in parts and read whole."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow import schema
from winnow.errors import DataError
from winnow.files import replacing


def to_table(passage_ids: Sequence[str], embeddings_PD: NDArray[np.float32]) -> pa.Table:
    """The rows of ``embeddings``. Raises ``DataError`` for a vector that is not finite."""
    bad = np.flatnonzero(~np.isfinite(embeddings_PD).all(axis=1))
    if len(bad):
        raise DataError(
            f"the encoder gave NaN or infinity for passage {passage_ids[bad[0]]!r} and {len(bad) - 1} more; "
            f"check its weights, or set `encoder.precision: float32`"
        )
    dimension = embeddings_PD.shape[1]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings_PD.reshape(-1)), dimension)
    return pa.table([pa.array(passage_ids, pa.string()), vectors], schema=schema.embeddings(dimension))


@contextmanager
def writing_embeddings(path: Path, *, fingerprint: str) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends a table of embeddings to ``path``, which appears whole when the block ends well."""
    metadata = {"winnow_schema_version": schema.SCHEMA_VERSION, "winnow_fingerprint": fingerprint}
    writer: pq.ParquetWriter | None = None
    with replacing(path) as temporary:

        def append(table: pa.Table) -> None:
            nonlocal writer
            table = table.replace_schema_metadata(metadata)
            writer = writer or pq.ParquetWriter(temporary, table.schema)
            writer.write_table(table)

        try:
            yield append
        finally:
            if writer is not None:
                writer.close()


def read_embeddings(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Passage ids and ``embeddings_PD``, in the order they were written. Raises ``DataError``."""
    try:
        dimension = pq.read_schema(path).field("embedding").type.list_size
    except (OSError, pa.ArrowInvalid, KeyError, AttributeError) as error:
        raise DataError(f"{path} does not hold embeddings ({error}); delete it and run the command again") from error
    table = schema.read_dataset(path, schema.embeddings(dimension))
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return table["passage_id"].to_pylist(), flat.reshape(-1, dimension)
