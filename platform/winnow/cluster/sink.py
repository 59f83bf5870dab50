"""The durable sink: evidence of a judge, kept as Parquet files that are whole or absent.

One directory per judge, shared by all runs under an output root and by any number of writers. A row is
one judged query, keyed by (query id, pool id); a second row of the same key, after a retry, is harmless.
Writers leave many small parts; ``compact`` merges them. Reading is in the order of keys and holds one
range of them at a time, however much evidence there is.
"""

import os
import tempfile
import time
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from winnow import schema
from winnow.cluster.in_hand import Key
from winnow.judging.rows import EVIDENCE, evidence_table
from winnow.records import JudgedQuery, Status

_KEY = ["query_id", "pool_id"]
_RANGE_ROWS = 10_000
"""Queries whose evidence is in memory at a time when it is read."""
_PARTS_MERGED = 500
"""Small parts that become one file."""


class EvidenceSink:
    """Append and look up. Picklable: actors write, the driver reads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()

    def write(self, judged: Sequence[JudgedQuery]) -> None:
        """``judged`` as one file. It is hidden until it is whole; its name sorts by time."""
        schema.write_dataset(self.directory / _name("part"), evidence_table(judged))

    def statuses(self) -> dict[Key, Status]:
        """What became of every query judged so far."""
        found: dict[Key, Status] = {}
        for rows in self._scan([*_KEY, "status"]):
            for query_id, pool_id, status in zip(*(rows[name].to_pylist() for name in rows.schema.names), strict=True):
                if found.get((query_id, pool_id)) != "ok":
                    found[query_id, pool_id] = status
        return found

    def read(self, keys: Iterable[Key]) -> Iterator[pa.Table]:
        """The evidence of ``keys`` in their order, as far as there is any, one row each, in tables of bounded size.

        Of several rows of a key the first ``ok`` counts, so labels in use never change, else the latest failure.
        """
        wanted = sorted(keys)
        if not wanted or not self.directory.exists():
            return
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".sorting-") as scratch:
            for bucket in self._split(wanted, Path(scratch)):
                with pa.OSFile(str(bucket)) as file, pa.ipc.open_file(file) as reader:
                    yield _one_row_per_key(reader.read_all())

    def compact(self) -> None:
        """Merge small parts, many at a time. Whoever reads meanwhile finds every row, some of them twice."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(self.directory / ".compacting"):
            parts = sorted(self.directory.glob("part-*.parquet"))
            for start in range(0, len(parts) - _PARTS_MERGED + 1, _PARTS_MERGED):
                self._merge(parts[start : start + _PARTS_MERGED])

    def set_aside(self) -> None:
        """Start anew; the old evidence is kept beside, hidden."""
        if self.directory.exists():
            os.rename(self.directory, self.directory.with_name(f".{self.directory.name}.{time.time_ns()}"))

    def _merge(self, parts: Sequence[Path]) -> None:
        merged = pa.concat_tables([pq.read_table(part) for part in parts])
        # It takes the place of the oldest in the order of time.
        schema.write_dataset(self.directory / parts[0].name.replace("part-", "merged-"), merged)
        for part in parts:
            part.unlink()

    def _scan(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Every row, oldest first. A part that was merged away meanwhile is found in the merged file."""
        done: set[str] = set()
        while remaining := [path for path in self._files() if path.name not in done]:
            for path in remaining:
                done.add(path.name)
                try:
                    file = pq.ParquetFile(path)
                except FileNotFoundError:
                    continue
                with file:
                    yield from file.iter_batches(2000, columns=columns)

    def _files(self) -> list[Path]:
        found = [*self.directory.glob("part-*.parquet"), *self.directory.glob("merged-*.parquet")]
        return sorted(found, key=lambda path: path.name.partition("-")[2])

    def _split(self, wanted: Sequence[Key], scratch: Path) -> list[Path]:
        """One file per range of keys, with the rows of that range in order of time."""
        firsts = [query_id for query_id, _ in wanted[_RANGE_ROWS::_RANGE_ROWS]]
        paths = [scratch / f"{number:05d}.arrow" for number in range(len(firsts) + 1)]
        value_set = pa.array([_joined(*key) for key in wanted], pa.string())
        with ExitStack() as stack:
            files = [stack.enter_context(pa.OSFile(str(path), "wb")) for path in paths]
            writers = [stack.enter_context(pa.ipc.new_file(file, EVIDENCE)) for file in files]
            for batch in self._scan(EVIDENCE.names):
                rows = pa.Table.from_batches([batch]).cast(EVIDENCE)
                rows = rows.filter(pc.is_in(_joined_column(rows), value_set=value_set))
                numbers = pa.array([bisect_right(firsts, name) for name in rows["query_id"].to_pylist()], pa.int64())
                for number in pc.unique(numbers).to_pylist():
                    writers[number].write_table(rows.filter(pc.equal(numbers, number)))
        return paths


def _name(kind: str) -> str:
    return f"{kind}-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"


def _one_row_per_key(rows: pa.Table) -> pa.Table:
    winners: dict[str, int] = {}
    statuses = rows["status"].to_pylist()
    for position, key in enumerate(_joined_column(rows).to_pylist()):
        if key not in winners or statuses[winners[key]] != "ok":
            winners[key] = position
    chosen = rows.take(pa.array(sorted(winners.values()), pa.int64()))
    return chosen.sort_by([(name, "ascending") for name in _KEY])


def _joined_column(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["query_id"], rows["pool_id"], "\x1f")


def _joined(query_id: str, pool_id: str) -> str:
    return f"{query_id}\x1f{pool_id}"
