"""An index over the vectors of a corpus. It knows positions, not passages.

Legend: Q queries, K results, D dimension.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from winnow.errors import DataError, IndexMismatchError
from winnow.retrieval.arrays import open_array
from winnow.retrieval.factory import parse_factory
from winnow.retrieval.gpu import on_gpu
from winnow.retrieval.index_files import VECTORS, IndexDescription, read_description, shard_path
from winnow.retrieval.ivf_shards import IvfShards
from winnow.retrieval.ranking import Ranked, best_members, in_order, no_results, rescored
from winnow.retrieval.shard import Shard, open_shard
from winnow.retrieval.subset import Subset


class VectorIndex:
    """Nearest vectors by dot product. Safe to share between threads; ``building.build_index`` makes its files."""

    def __init__(
        self, shards: Sequence[Shard], description: IndexDescription, vectors_PD: NDArray[np.float32] | None
    ) -> None:
        self._shards = shards
        self._vectors_PD = vectors_PD
        self._rescore = description.rescore or 1
        self._alone = shards[0] if len(shards) == 1 and vectors_PD is None else None
        self._ends = np.cumsum([shard.count for shard in shards]).tolist()
        self.count = description.count
        """Vectors in all shards."""
        self.dimension = description.dimension
        """D."""
        self.factory = description.factory
        """The kind of index, in FAISS's words."""

    @classmethod
    def load(cls, directory: Path, *, memory_map: bool = True, device: Literal["cpu", "cuda"] = "cpu") -> Self:
        """The index in ``directory``. Raises ``IndexMismatchError``, or ``ConfigError`` if ``device`` cannot hold it.

        With ``memory_map`` it is read from disk as searches need it, and processes on one machine share it in memory.
        On ``cuda`` the GPU has a copy; searches among a subset still use the files. A damaged file can crash the
        reader, so compare hashes with the manifest first.
        """
        description = read_description(directory)
        indexes = [
            open_shard(shard_path(directory, number), description, count=count, memory_map=memory_map)
            for number, count in enumerate(description.shards)
        ]
        if device == "cpu" and len(indexes) > 1 and parse_factory(description.factory).kind == "ivf":
            indexes = [IvfShards(indexes)]
        finds = on_gpu(indexes, description.factory) if device == "cuda" else [None] * len(indexes)
        shards = [Shard(index, description, find=find) for index, find in zip(indexes, finds, strict=True)]
        return cls(shards, description, _open_vectors(directory, description))

    def search(self, queries_QD: NDArray[np.float32], k: int, *, among: Subset | None = None) -> Ranked:
        """``scores_QK`` and ``positions_QK``, best first, equal scores by position; K is at most what there is.

        A position of -1 says that an approximate search found no further result; among a subset there is none
        of these. Raises ``DataError`` for queries of another dimension.
        """
        if queries_QD.ndim != 2 or queries_QD.shape[1] != self.dimension:
            raise DataError(f"queries have shape {queries_QD.shape}, expected (Q, {self.dimension}) as the index has")
        k = min(k, self.count if among is None else among.count)
        if k < 1 or not len(queries_QD):
            return no_results(len(queries_QD), max(k, 0))
        if among is None and self._alone is not None:
            return self._alone.search(queries_QD, k)
        queries_QD = np.ascontiguousarray(queries_QD, dtype=np.float32)
        if self._vectors_PD is None:
            return self._search_shards(queries_QD, k, among)
        return self._search_and_rescore(queries_QD, k, among)

    def _search_and_rescore(self, queries_QD: NDArray[np.float32], k: int, among: Subset | None) -> Ranked:
        num_candidates = k * self._rescore
        if among is not None and among.count <= num_candidates:
            return best_members(queries_QD, among.positions_S, self._vectors_PD.__getitem__, k)
        _, positions_QN = self._search_shards(queries_QD, min(num_candidates, self.count), among)
        return rescored(queries_QD, positions_QN, self._vectors_PD.__getitem__, k)

    def _search_shards(self, queries_QD: NDArray[np.float32], k: int, among: Subset | None) -> Ranked:
        scores, positions = [], []
        for shard, end in zip(self._shards, self._ends, strict=True):
            start = end - shard.count
            if among is None:
                scores_QN, positions_QN = shard.search(queries_QD, min(k, shard.count))
            else:
                scores_QN, positions_QN = shard.search_among(queries_QD, k, among.part(start, end))
            scores.append(scores_QN)
            positions.append(np.where(positions_QN < 0, -1, positions_QN + start))
        if len(scores) == 1:
            return scores[0], positions[0]
        return in_order(np.concatenate(scores, axis=1), np.concatenate(positions, axis=1), k)


def _open_vectors(directory: Path, description: IndexDescription) -> NDArray[np.float32] | None:
    if description.rescore is None:
        return None
    path = directory / VECTORS
    vectors_PD = open_array(path)
    expected = (description.count, description.dimension)
    if vectors_PD.shape != expected or vectors_PD.dtype != np.float32:
        raise IndexMismatchError(
            f"{path} holds {vectors_PD.dtype} {vectors_PD.shape}, expected float32 {expected}; build the index again"
        )
    return vectors_PD
