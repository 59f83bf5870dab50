"""Some of the passages of a corpus, as a search takes them: by position.

Legend: P passages, S members, N positions of any kind.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

_NARROW = 32
"""Of fewer than one passage in so many, positions are kept beside the bits: they take no more memory."""


class Subset:
    """The positions that a search may return. Make one per filter and keep it: what is derived from it is cached.

    >>> subset = Subset.of(np.array([3, 0, 2]), 4)
    >>> subset.count, subset.bitmap.tolist(), subset.part(2, 4).positions_S.tolist()
    (3, [13], [0, 1])
    """

    def __init__(self, bitmap: NDArray[np.uint8], num_passages: int, positions_S: NDArray[np.uint32] | None) -> None:
        """``positions_S``, ascending, are needed only of a narrow subset; see ``of``."""
        self.bitmap = bitmap
        """A bit for each passage, the first one lowest, as FAISS reads it."""
        self.count = int(np.bitwise_count(bitmap).sum()) if positions_S is None else len(positions_S)
        self._num_passages = num_passages
        self._positions_S = positions_S
        self._parts: dict[tuple[int, int], Subset] = {}

    @classmethod
    def of(cls, positions_N: NDArray[np.integer], num_passages: int) -> Self:
        """The subset of ``positions_N``, which may be in any order."""
        if len(positions_N) * _NARROW > num_passages:
            is_member_P = np.zeros(num_passages, dtype=bool)
            is_member_P[positions_N.astype(np.intp)] = True
            return cls(np.packbits(is_member_P, bitorder="little"), num_passages, None)
        # In time that does not depend on the number of passages.
        positions_S = np.unique(positions_N).astype(np.uint32)
        bitmap = np.zeros(-(-num_passages // 8), dtype=np.uint8)
        np.bitwise_or.at(bitmap, positions_S >> 3, np.left_shift(1, positions_S & 7).astype(np.uint8))
        return cls(bitmap, num_passages, positions_S)

    @property
    def positions_S(self) -> NDArray[np.int64]:
        """The members in ascending order."""
        if self._positions_S is not None:
            return self._positions_S.astype(np.int64)
        return np.flatnonzero(np.unpackbits(self.bitmap, count=self._num_passages, bitorder="little"))

    @property
    def num_bytes(self) -> int:
        """The most memory that it takes, with all its parts."""
        # Parts of a wide subset may be narrow.
        positions = self.bitmap.nbytes if self._positions_S is None else 2 * self._positions_S.nbytes
        return 2 * self.bitmap.nbytes + positions

    def holds(self, positions_N: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each of ``positions_N`` is a member."""
        return (self.bitmap[positions_N >> 3] >> (positions_N & 7)) & 1 == 1

    def __and__(self, other: Subset) -> Subset:
        """The members of both."""
        for narrow, wide in ((self, other), (other, self)):
            if narrow._positions_S is not None:
                return Subset.of(narrow._positions_S[wide.holds(narrow._positions_S)], self._num_passages)
        both = Subset(self.bitmap & other.bitmap, self._num_passages, None)
        return Subset.of(both.positions_S, self._num_passages) if both.count * _NARROW <= self._num_passages else both

    def part(self, start: int, stop: int) -> Subset:
        """The members from ``start`` up to ``stop``, counted from ``start``."""
        if (start, stop) == (0, self._num_passages):
            return self
        # Two threads may make the same part; they make the same one.
        if (start, stop) not in self._parts:
            self._parts[start, stop] = Subset.of(self._inside(start, stop), stop - start)
        return self._parts[start, stop]

    def _inside(self, start: int, stop: int) -> NDArray[np.integer]:
        if self._positions_S is not None:
            first, end = np.searchsorted(self._positions_S, (start, stop))
            return self._positions_S[first:end] - np.uint32(start)
        # Whole bytes, of which the first may begin before ``start``.
        skipped = start % 8
        bits = np.unpackbits(self.bitmap[start // 8 :], count=skipped + stop - start, bitorder="little")
        return np.flatnonzero(bits[skipped:])
