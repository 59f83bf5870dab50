"""Embeddings on disk: the dataset ``embeddings``, written in parts, read whole or block by block."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


_BLOCK_ROWS = 8192
"""Rows that are held at a time when embeddings are streamed: some megabytes."""


@dataclass(frozen=True, slots=True)
class EmbeddingScan:
    """Embeddings that are read from their file block by block, as often as asked."""

    path: Path
    count: int
    """Rows."""
    dimension: int

    def passage_ids(self) -> Iterator[str]:
        """The ids, in order."""
        for column in self._columns("passage_id"):
            yield from column.to_pylist()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The vectors, in order, some thousand rows of ``embeddings_PD`` at a time."""
        for column in self._columns("embedding"):
            yield column.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.dimension)

    def _columns(self, name: str) -> Iterator[pa.Array]:
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=_BLOCK_ROWS, columns=[name]):
                    yield batch.column(0)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self.path, error) from error


def scan_embeddings(path: Path) -> EmbeddingScan:
    """The embeddings in ``path``, to be read block by block. Raises ``DataError``."""
    try:
        with pq.ParquetFile(path) as file:
            found, count = file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    dimension = _dimension(path, found)
    schema.check_schema(found.empty_table(), schema.embeddings(dimension), where=str(path))
    return EmbeddingScan(path, count, dimension)


def read_embeddings(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Passage ids and ``embeddings_PD``, in the order they were written. Raises ``DataError``."""
    dimension = scan_embeddings(path).dimension
    table = schema.read_dataset(path, schema.embeddings(dimension))
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return table["passage_id"].to_pylist(), flat.reshape(-1, dimension)


def _dimension(path: Path, found: pa.Schema) -> int:
    vectors = found.field("embedding").type if "embedding" in found.names else None
    if not isinstance(vectors, pa.FixedSizeListType) or vectors.list_size < 1 or vectors.value_type != pa.float32():
        raise _unreadable(path, f"its column `embedding` is {vectors}, expected float32 lists of one length")
    return vectors.list_size


def _unreadable(path: Path, why: object) -> DataError:
    return DataError(f"{path} does not hold embeddings ({why}); delete it and run the command again")
