"""Which passages have a value in a field: two numbers per passage and field, sorted, read from disk as needed.

The fields lie one after another in the order of their names. In each, the passages are ordered by the digest of their
value, so those with equal values stand together. Kept are the first 4 bytes of the digest, to find a value by, and the
passage's position; the value itself is read where it is stored, among the passages.

Legend: N passages that have a field, V values asked for.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from winnow.errors import IndexMismatchError
from winnow.retrieval.arrays import open_array
from winnow.retrieval.passages import FIELDS, PassageFile

_DIGEST_BYTES = 16
"""Long enough that no two values have the same one."""
_Entries = tuple[NDArray[np.uint32], NDArray[np.uint64]]
"""Positions, and beside each the digest of its value as two numbers."""


class FieldIndex:
    """Values to positions. Nothing is read before it is asked for. Safe to share between threads."""

    def __init__(self, rows: NDArray[np.uint32], counts: Mapping[str, int], passages: PassageFile) -> None:
        self.num_passages = len(passages)
        """P."""
        self.counts = {name: counts[name] for name in sorted(counts)}
        """How many passages have each field."""
        self._rows = rows
        self._passages = passages
        ends = accumulate(self.counts.values(), initial=0)
        self._spans = {name: slice(*span) for name, span in zip(self.counts, pairwise(ends), strict=True)}

    @classmethod
    def build(cls, passages: PassageFile) -> Self:
        """The fields of ``passages``; about 30 bytes for each passage and field are in memory meanwhile."""
        found: dict[str, list[_Entries]] = {name: [] for name in FIELDS}
        start = 0
        for batch in passages.batches:
            for name, places, values in _values(batch):
                found.setdefault(name, []).append(((places + start).astype(np.uint32), _digests(values)))
            start += batch.num_rows
        rows = [_sorted(found[name]) for name in sorted(found)]
        counts = {name: part.shape[1] for name, part in zip(sorted(found), rows, strict=True)}
        return cls(np.concatenate(rows, axis=1), counts, passages)

    @classmethod
    def load(cls, path: Path, counts: Mapping[str, int], passages: PassageFile, *, memory_map: bool = True) -> Self:
        """The fields in ``path``, of which there are ``counts``. Raises ``IndexMismatchError``."""
        rows = open_array(path, memory_map=memory_map)
        expected = (2, sum(counts.values()))
        if rows.shape != expected or rows.dtype != np.uint32 or rows[1].max(initial=0) >= len(passages):
            raise IndexMismatchError(
                f"{path} holds {rows.dtype} {rows.shape}, expected uint32 {expected} of positions below "
                f"{len(passages):,}; fetch the version again, or run `winnow index` again"
            )
        return cls(rows, counts, passages)

    def save(self, path: Path) -> None:
        """Write all of it but ``counts``, which ``load`` wants."""
        np.save(path, self._rows, allow_pickle=False)

    def positions(self, field: str, values: Sequence[str]) -> NDArray[np.uint32]:
        """The passages that have one of ``values`` (each given once) in ``field``, in any order."""
        hashes_N, positions_N = self._rows[:, self._spans[field]]
        wanted_V = np.frombuffer(b"".join(_digest(value)[:4] for value in values), dtype=">u4").astype(np.uint32)
        starts_V, stops_V = (np.searchsorted(hashes_N, wanted_V, side=side) for side in ("left", "right"))
        known = np.flatnonzero(starts_V < stops_V)
        firsts, lasts = positions_N[starts_V[known]], positions_N[stops_V[known] - 1]
        found = [positions_N[:0]]
        for place, first, last in zip(known.tolist(), *self._read(field, firsts, lasts), strict=True):
            span = starts_V[place], stops_V[place]
            if not first == values[place] == last:
                span = self._narrowed(positions_N, *span, field, values[place])
            found.append(positions_N[slice(*span)])
        return np.concatenate(found)

    def _read(
        self, field: str, firsts_N: NDArray[np.uint32], lasts_N: NDArray[np.uint32]
    ) -> tuple[list[str | None], list[str | None]]:
        """The values at both ends of spans; that of a span of one passage is read once."""
        firsts = self._passages.values(firsts_N, field)
        lasts, differs = list(firsts), np.flatnonzero(firsts_N != lasts_N)
        for place, value in zip(differs.tolist(), self._passages.values(lasts_N[differs], field), strict=True):
            lasts[place] = value
        return firsts, lasts

    def _narrowed(
        self, positions_N: NDArray[np.uint32], start: int, stop: int, field: str, value: str
    ) -> tuple[int, int]:
        """Where the passages with ``value`` itself stand between ``start`` and ``stop``; they may be none."""

        def digest(place: int) -> bytes:
            return _digest(self._passages.values(positions_N[place : place + 1], field)[0])

        return tuple(cut(range(stop), _digest(value), lo=start, key=digest) for cut in (bisect_left, bisect_right))


def _values(batch: pa.RecordBatch) -> Iterator[tuple[str, NDArray[np.int64], pa.StringArray]]:
    """The fields of ``batch``: name, rows that have a value, and these values."""
    for name in FIELDS:
        column = batch.column(name)
        yield name, np.flatnonzero(column.is_valid()), column.drop_null()
    metadata = batch.column("metadata")
    # The entries of all rows lie in one array; row p has those from offset p to offset p + 1.
    offsets = metadata.offsets.to_numpy()
    keys, values = (part.slice(offsets[0], offsets[-1] - offsets[0]) for part in (metadata.keys, metadata.items))
    rows = np.repeat(np.arange(len(metadata)), np.diff(offsets))
    encoded, is_given = keys.dictionary_encode(), np.asarray(values.is_valid())
    numbers = encoded.indices.to_numpy()
    for number, name in enumerate(encoded.dictionary.to_pylist()):
        if name not in FIELDS:
            places = np.flatnonzero((numbers == number) & is_given)
            yield name, rows[places], values.take(pa.array(places))


def _digests(values: pa.StringArray) -> NDArray[np.uint64]:
    """The digest of each value, in two numbers that are ordered as its bytes are."""
    encoded = values.dictionary_encode()
    digests = b"".join(map(_digest, encoded.dictionary.to_pylist()))
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)[encoded.indices.to_numpy()]


def _sorted(parts: Sequence[_Entries]) -> NDArray[np.uint32]:
    """Hashes and positions, two rows; the positions of one value are in ascending order."""
    if not parts:
        return np.empty((2, 0), dtype=np.uint32)
    positions_N, digests_N2 = (np.concatenate(column) for column in zip(*parts, strict=True))
    order_N = np.lexsort((digests_N2[:, 1], digests_N2[:, 0]))
    return np.stack([(digests_N2[order_N, 0] >> 32).astype(np.uint32), positions_N[order_N]])


def _digest(value: str) -> bytes:
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
