"""Token ids of the texts that training needs, written once and looked up by id.

``<directory>/*.parquet`` with the columns of ``TOKENS``; any number of files, rows in any order.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.errors import DataError
from winnow.modeling.protocol import Side

TEXTS = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("side", "id", "text")])
"""What is tokenised."""

TOKENS = pa.schema(
    [
        pa.field("side", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
    ]
)


class TokenStore:
    """Token ids of queries and passages. One flat array per side, so millions of texts cost few objects."""

    def __init__(self, directory: Path) -> None:
        parts = sorted(directory.glob("*.parquet"))
        if not parts:
            raise DataError(f"no token shards under {str(directory)!r}; run `winnow train` again, which writes them")
        # Read by schema and cast, because a writer may have stored a field as nullable or as a large list.
        table = pa.concat_tables([pq.read_table(part, columns=TOKENS.names).cast(TOKENS) for part in parts])
        self._sides: dict[Side, _Side] = {
            side: _Side(table.filter(pc.equal(table["side"], side)), side) for side in ("query", "passage")
        }

    def tokens(self, side: Side, text_id: str) -> list[int]:
        """The token ids of a text, special tokens included. Raises ``DataError``."""
        start, end = self._sides[side].span(text_id)
        return self._sides[side].flat[start:end].tolist()

    def length(self, side: Side, text_id: str) -> int:
        """How many tokens a text has. Raises ``DataError``."""
        start, end = self._sides[side].span(text_id)
        return end - start

    def lengths(self, side: Side) -> np.ndarray:
        """How many tokens each text of ``side`` has, in no particular order."""
        return np.diff(self._sides[side].bounds)


class _Side:
    def __init__(self, table: pa.Table, side: Side) -> None:
        rows = table["input_ids"].combine_chunks()
        self._name = side
        self.flat = rows.flatten().to_numpy(zero_copy_only=False)
        self.bounds = np.concatenate([[0], np.cumsum(rows.value_lengths().to_numpy(zero_copy_only=False))]).astype(int)
        self._row_of = {text_id: row for row, text_id in enumerate(table["id"].to_pylist())}

    def span(self, text_id: str) -> tuple[int, int]:
        row = self._row_of.get(text_id)
        if row is None:
            raise DataError(
                f"no tokens for {self._name} {text_id!r}: the training examples name a text that was not tokenised; "
                f"run `winnow label` and `winnow train` again with the same --config"
            )
        return int(self.bounds[row]), int(self.bounds[row + 1])
