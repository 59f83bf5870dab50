"""A FAISS index over the vectors of a corpus. It knows positions, not passages."""

from pathlib import Path
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from winnow.errors import DataError
from winnow.retrieval.config import IndexConfig

METRIC = "inner_product"


class VectorIndex:
    """Nearest vectors by dot product. Legend: Q queries, K results, P passages, D dimension."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    @classmethod
    def build(cls, embeddings_PD: NDArray[np.float32], config: IndexConfig) -> Self:
        """The index of ``embeddings_PD``. Raises ``DataError`` if there are none."""
        if len(embeddings_PD) == 0:
            raise DataError("there is no passage to index; an empty index would answer every query with nothing")
        faiss.omp_set_num_threads(config.build_threads)
        index = faiss.index_factory(embeddings_PD.shape[1], config.factory, faiss.METRIC_INNER_PRODUCT)
        if config.factory != "Flat":
            index.hnsw.efConstruction = config.ef_construction
            index.hnsw.efSearch = config.ef_search
        index.add(np.ascontiguousarray(embeddings_PD, dtype=np.float32))
        return cls(index)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The index in ``path``. A damaged file can crash the reader, so compare its hash with the manifest first."""
        return cls(faiss.read_index(str(path)))

    @property
    def count(self) -> int:
        """P."""
        return self._index.ntotal

    @property
    def dimension(self) -> int:
        """D."""
        return self._index.d

    def search(self, queries_QD: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """``scores_QK`` and ``positions_QK``, best first; a position of -1 says that there is no further result."""
        return self._index.search(np.ascontiguousarray(queries_QD, dtype=np.float32), min(k, self.count))

    def save(self, path: Path) -> None:
        """Write the index."""
        faiss.write_index(self._index, str(path))
