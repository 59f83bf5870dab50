"""Some of the passages of a corpus, as a search takes them: by position."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray


class Subset:
    """The positions that a search may return. Make one per filter and keep it: what is derived from it is cached.

    >>> subset = Subset(np.array([True, False, True, True]))
    >>> subset.count, subset.positions_S.tolist(), subset.part(2, 4).positions_S.tolist()
    (3, [0, 2, 3], [0, 1])
    """

    def __init__(self, is_member_P: NDArray[np.bool_]) -> None:
        self.is_member_P = is_member_P
        self.count = int(np.count_nonzero(is_member_P))
        self._parts: dict[tuple[int, int], Subset] = {}

    @cached_property
    def positions_S(self) -> NDArray[np.int64]:
        """The members in ascending order."""
        return np.flatnonzero(self.is_member_P)

    @cached_property
    def bitmap(self) -> NDArray[np.uint8]:
        """A bit for each passage, the first one lowest, as FAISS reads it."""
        return np.packbits(self.is_member_P, bitorder="little")

    def part(self, start: int, stop: int) -> "Subset":
        """The members from ``start`` up to ``stop``, counted from ``start``."""
        if (start, stop) == (0, len(self.is_member_P)):
            return self
        # Two threads may make the same part; they make the same one.
        if (start, stop) not in self._parts:
            self._parts[start, stop] = Subset(self.is_member_P[start:stop])
        return self._parts[start, stop]
