"""Vectors of queries that were asked before. A part of one retriever version: another encoder has other vectors.

Legend: D dimension.
"""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray


class VectorCache:
    """The vectors of the ``size`` queries asked last; none with a size of 0. For one thread: the event loop's."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._size > 0

    def get(self, query: str) -> NDArray[np.float32] | None:
        """``vector_D`` of ``query``, if it is known."""
        vector_D = self._vectors.get(query)
        if vector_D is not None:
            self._vectors.move_to_end(query)
        return vector_D

    def put(self, query: str, vector_D: NDArray[np.float32]) -> None:
        """Keep ``vector_D``; the query that was not asked for longest makes room."""
        if not self.is_on:
            return
        # A copy: a row of a batch would keep the whole batch in memory.
        self._vectors[query] = vector_D.copy()
        self._vectors.move_to_end(query)
        if len(self._vectors) > self._size:
            self._vectors.popitem(last=False)
