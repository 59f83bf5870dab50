"""The durable sink: evidence of a judge, kept as small Parquet files that are whole or absent.

One directory per judge, shared by all runs under an output root and by any number of writers. A row is
one judged query, keyed by (query id, pool id); a second row of the same key, after a retry, is harmless.
"""

import os
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow import schema
from winnow.judging.rows import EVIDENCE, evidence_table
from winnow.records import JudgedQuery, Status

Key = tuple[str, str]
"""Query id and pool id. The judge is the directory."""

_KEY = ["query_id", "pool_id"]


class EvidenceSink:
    """Append and look up. Picklable: actors write, the driver reads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def write(self, judged: Sequence[JudgedQuery]) -> None:
        """``judged`` as one file. It is hidden until it is whole; its name sorts by time."""
        name = f"part-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
        schema.write_dataset(self._directory / name, evidence_table(judged))

    def statuses(self) -> dict[Key, Status]:
        """What became of every query judged so far."""
        rows = self._valid(columns=[*_KEY, "status"])
        return {(row["query_id"], row["pool_id"]): row["status"] for row in rows.to_pylist()}

    def read(self, keys: Iterable[Key]) -> pa.Table:
        """The evidence of ``keys``, as far as there is any, one row each."""
        wanted = pa.array([_joined(*key) for key in keys], pa.string())
        rows = self._valid(columns=EVIDENCE.names)
        return rows.filter(pc.is_in(_joined_column(rows), value_set=wanted))

    def set_aside(self) -> None:
        """Start anew; the old evidence is kept beside, hidden."""
        if self._directory.exists():
            os.rename(self._directory, self._directory.with_name(f".{self._directory.name}.{time.time_ns()}"))

    def _valid(self, *, columns: list[str]) -> pa.Table:
        """One row per key: the first ``ok``, so labels in use never change, else the latest failure."""
        parts = sorted(self._directory.glob("part-*.parquet"))
        tables = [pq.read_table(part, columns=columns) for part in parts]
        rows = pa.concat_tables(tables) if tables else EVIDENCE.empty_table().select(columns)
        return rows.take(pa.array(sorted(_winners(rows).values()), pa.int64()))


def _winners(rows: pa.Table) -> dict[str, int]:
    winners: dict[str, int] = {}
    statuses = rows["status"].to_pylist()
    for position, key in enumerate(_joined_column(rows).to_pylist()):
        if key not in winners or statuses[winners[key]] != "ok":
            winners[key] = position
    return winners


def _joined_column(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["query_id"], rows["pool_id"], "\x1f")


def _joined(query_id: str, pool_id: str) -> str:
    return f"{query_id}\x1f{pool_id}"
