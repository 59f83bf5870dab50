"""The durable sink: evidence of a judge, kept as Parquet files that are whole or absent.

One directory per judge, shared by all runs under an output root and by any number of writers. A row is
one judged query, keyed by (query id, pool id); a second row of the same key, after a retry, is harmless.
Writers leave many small parts; ``compact`` merges them. Reading is in the order of keys and holds one
range of them at a time, however much evidence there is. Replies that an earlier version of the parser read do
not count until ``read_again`` has found that they are still read alike.
"""

import json
import os
import tempfile
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from winnow import schema
from winnow.cluster.in_hand import Key, is_at_work
from winnow.errors import ConfigError
from winnow.judging.rows import EVIDENCE, evidence_table
from winnow.records import JudgedQuery, Status

_KEY = ["query_id", "pool_id"]
_RANGE_ROWS = 10_000
"""Queries whose evidence is in memory at a time when it is read."""
_PARTS_MERGED = 500
"""Small parts that become one file."""
_MERGED = b"winnow_merged_parts"
"""Metadata of a merged file: the parts that are in it."""

_VERSIONS = pa.schema([EVIDENCE.field(name) for name in ("query_id", "reading")])


class EvidenceSink:
    """Append and look up. Picklable: actors write, the driver reads."""

    def __init__(self, directory: Path, *, reading: int = 1) -> None:
        """``reading`` is the version of the reading of replies whose rows count; rows without one are of the first."""
        self.directory = directory.absolute()
        self._reading = reading

    def write(self, judged: Sequence[JudgedQuery]) -> str:
        """``judged`` as one file, whose name sorts by time and is returned. It is hidden until it is whole.

        Its rows are of this sink's reading, whether the judge got as far as a reply or not.
        """
        return schema.write_dataset(self.directory / _name("part"), evidence_table(judged, reading=self._reading)).name

    def missing(self, parts: Collection[str]) -> set[str]:
        """Those of ``parts``, written by anyone, that cannot be read from here, neither as such nor merged."""
        files = self._files()
        missing = set(parts) - {path.name for path in files}
        if not missing:
            return missing
        for path in files:
            if path.name.startswith("merged-"):
                missing -= _merged_parts(path)
        return missing

    def statuses(self) -> dict[Key, Status]:
        """What became of every query judged so far."""
        found: dict[Key, Status] = {}
        for rows in self._scan([*_KEY, "status"]):
            for query_id, pool_id, status in zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True):
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
        with self._keeping_files():
            parts = sorted(self.directory.glob("part-*.parquet"))
            for start in range(0, len(parts) - _PARTS_MERGED + 1, _PARTS_MERGED):
                self._merge(parts[start : start + _PARTS_MERGED])

    def read_again(self, is_alike: Callable[[Mapping[str, Any]], bool]) -> tuple[int, int]:
        """How many rows of other versions of the reading this one reads alike, so that they count now; how many not.

        ``is_alike`` gets a row of ``EVIDENCE``. It is asked once about each: the answer is noted with the row.
        """
        with self._keeping_files():
            counts = [self._read_file_again(path, is_alike) for path in self._files()]
        return sum(alike for alike, _ in counts), sum(unlike for _, unlike in counts)

    def set_aside(self) -> None:
        """Start anew; the old evidence is kept beside, hidden. Raises ``ConfigError`` while another run adds to it."""
        if is_at_work(self.directory):
            raise ConfigError(
                f"another run of this judge is writing to {str(self.directory)!r}; wait for its end before you judge "
                f"everything again, or give this run another `output`"
            )
        if self.directory.exists():
            os.rename(self.directory, self.directory.with_name(f".{self.directory.name}.{time.time_ns()}"))

    def _keeping_files(self) -> FileLock:
        """Held by whoever replaces files."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return FileLock(self.directory / ".compacting")

    def _merge(self, parts: Sequence[Path]) -> None:
        merged = pa.concat_tables([_read(part, EVIDENCE) for part in parts])
        # It takes the place of the oldest in the order of time.
        path = self.directory / parts[0].name.replace("part-", "merged-")
        schema.write_dataset(path, merged, notes={_MERGED.decode(): json.dumps([part.name for part in parts])})
        for part in parts:
            part.unlink()

    def _read_file_again(self, path: Path, is_alike: Callable[[Mapping[str, Any]], bool]) -> tuple[int, int]:
        found = _read_by(_read(path, _VERSIONS))
        other = [position for position, version in enumerate(found) if abs(version) != self._reading]
        if not other:
            return 0, 0
        table = _read(path, EVIDENCE)
        answers = [is_alike(row) for row in table.take(other).to_pylist()]
        for position, alike in zip(other, answers, strict=True):
            found[position] = self._reading if alike else -self._reading
        place = table.column_names.index("reading")
        marked = table.set_column(place, EVIDENCE.field("reading"), pa.array(found, pa.int32()))
        notes = (pq.read_metadata(path).metadata or {}).get(_MERGED)
        schema.write_dataset(path, marked, notes={} if notes is None else {_MERGED.decode(): notes.decode()})
        return sum(answers), len(answers) - sum(answers)

    def _scan(self, columns: list[str]) -> Iterator[pa.Table]:
        """Every row that counts, oldest first. A part that was merged away meanwhile is found in the merged file."""
        wanted = pa.schema([EVIDENCE.field(name) for name in dict.fromkeys([*columns, "reading"])])
        done: set[str] = set()
        while remaining := [path for path in self._files() if path.name not in done]:
            for path in remaining:
                done.add(path.name)
                try:
                    file = pq.ParquetFile(path)
                except FileNotFoundError:
                    continue
                with file:
                    present = [name for name in wanted.names if name in file.schema_arrow.names]
                    for batch in file.iter_batches(2000, columns=present):
                        rows = schema.check_schema(pa.Table.from_batches([batch]), wanted, where=str(path))
                        counts = [version == self._reading for version in _read_by(rows)]
                        yield rows.filter(pa.array(counts, pa.bool_())).select(columns)

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
            for rows in self._scan(EVIDENCE.names):
                rows = rows.filter(pc.is_in(_joined_column(rows), value_set=value_set))
                numbers = pa.array([bisect_right(firsts, name) for name in rows["query_id"].to_pylist()], pa.int64())
                for number in pc.unique(numbers).to_pylist():
                    writers[number].write_table(rows.filter(pc.equal(numbers, number)))
        return paths


def _name(kind: str) -> str:
    return f"{kind}-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"


def _read(path: Path, columns: pa.Schema) -> pa.Table:
    """All rows of ``path``, those without effect too."""
    present = [name for name in columns.names if name in pq.read_schema(path).names]
    return schema.check_schema(pq.read_table(path, columns=present), columns, where=str(path))


def _read_by(rows: pa.Table) -> list[int]:
    """The version of the reading of each row; negative where that version did not read it alike."""
    return [version or 1 for version in rows["reading"].to_pylist()]


def _merged_parts(path: Path) -> set[str]:
    try:
        notes = pq.read_metadata(path).metadata or {}
    except FileNotFoundError:
        return set()
    return set(json.loads(notes.get(_MERGED, b"[]")))


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
