"""One FAISS index and how it is searched: by all, or among some of its vectors.

Legend: Q queries, K results, S members of a subset, D dimension. Positions count from the shard's first vector.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from winnow.errors import IndexMismatchError
from winnow.retrieval.factory import parse_factory
from winnow.retrieval.index_files import IndexDescription
from winnow.retrieval.ivf_shards import IvfShards
from winnow.retrieval.ranking import Ranked, best_members, in_order, no_results
from winnow.retrieval.subset import Subset

Find = Callable[[NDArray[np.float32], int], Ranked]
"""Queries and k to results in FAISS's order: best first, equal scores in any order."""

_COMPARED_PER_STEP = 16
"""Passages that a walk through an HNSW graph compares for each one that it keeps, roughly."""


class Shard:
    """Vectors that are searched together. Safe to share between threads."""

    def __init__(
        self, index: faiss.Index | IvfShards, description: IndexDescription, *, find: Find | None = None
    ) -> None:
        self._index = index
        self._factory = parse_factory(description.factory)
        self._description = description
        self._find: Find = find or index.search
        self.count: int = index.ntotal

    def search(self, queries_QD: NDArray[np.float32], k: int) -> Ranked:
        """The ``k`` best, at most ``count``; equal scores by position."""
        return settled(self._find, queries_QD, k, self.count)

    def search_among(self, queries_QD: NDArray[np.float32], k: int, subset: Subset) -> Ranked:
        """The ``k`` best members of ``subset``, all of them if there are fewer."""
        k = min(k, subset.count)
        if k == 0:
            return no_results(len(queries_QD))
        if self._is_quicker_by_member(subset, k):
            return self._search_members(queries_QD, k, subset)
        scores_QK, positions_QK = settled(self._find_among(subset, k), queries_QD, k, subset.count)
        is_short_Q = (positions_QK < 0).any(axis=1)
        if is_short_Q.any():
            scores_QK[is_short_Q], positions_QK[is_short_Q] = self._search_all_members(
                queries_QD[is_short_Q], k, subset
            )
        return scores_QK, positions_QK

    def _is_quicker_by_member(self, subset: Subset, k: int) -> bool:
        if self._factory.kind == "hnsw":
            return self._widened(self._description.ef_search, subset) * _COMPARED_PER_STEP >= subset.count
        return self._factory.kind == "product" and self._widened(2 * k, subset) >= subset.count

    def _find_among(self, subset: Subset, k: int) -> Find:
        if self._factory.kind == "product":
            # FAISS filters no search of this kind: take as many as hold 2k members if these are anywhere.
            return partial(self._find_and_drop, subset, self._widened(2 * k, subset))
        if self._factory.kind == "ivf":
            return self._find_in_lists(subset, self._widened(self._description.num_probes, subset))
        return partial(self._find_selected, self._parameters(subset))

    def _find_in_lists(self, subset: Subset, num_probes: int) -> Find:
        num_probes = min(num_probes, self._factory.num_lists)
        if isinstance(self._index, IvfShards):
            return partial(self._index.search_among, subset=subset, num_probes=num_probes)
        parameters = faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(subset.bitmap), nprobe=num_probes)
        if self._factory.is_rotated:
            parameters = faiss.SearchParametersPreTransform(index_params=parameters)
        return partial(self._find_selected, parameters)

    def _find_and_drop(self, subset: Subset, num_candidates: int, queries_QD: NDArray[np.float32], k: int) -> Ranked:
        scores_QN, positions_QN = self._index.search(queries_QD, max(k, num_candidates))
        return in_order(scores_QN, np.where(subset.holds(positions_QN), positions_QN, -1), k)

    def _find_selected(self, parameters: faiss.SearchParameters, queries_QD: NDArray[np.float32], k: int) -> Ranked:
        return self._index.search(queries_QD, k, params=parameters)

    def _search_all_members(self, queries_QD: NDArray[np.float32], k: int, subset: Subset) -> Ranked:
        if self._factory.kind == "ivf":
            find = self._find_in_lists(subset, self._factory.num_lists)
            return settled(find, queries_QD, k, subset.count)
        return self._search_members(queries_QD, k, subset)

    def _search_members(self, queries_QD: NDArray[np.float32], k: int, subset: Subset) -> Ranked:
        return best_members(queries_QD, subset.positions_S, self._index.reconstruct_batch, k)

    def _parameters(self, subset: Subset) -> faiss.SearchParameters:
        selector = faiss.IDSelectorBitmap(subset.bitmap)
        if self._factory.kind == "hnsw":
            return faiss.SearchParametersHNSW(sel=selector, efSearch=self._widened(self._description.ef_search, subset))
        return faiss.SearchParameters(sel=selector)

    def _widened(self, effort: int, subset: Subset) -> int:
        """``effort`` raised so that it meets as many members as it would meet passages without a filter."""
        return min(-(-effort * self.count // subset.count), self.count)


def settled(find: Find, queries_QD: NDArray[np.float32], k: int, limit: int) -> Ranked:
    """The ``k`` best of the at most ``limit`` that ``find`` can give, equal scores by position.

    FAISS keeps any of several results with the k-th score, so one more is asked for, and many more where
    it has that score too. If even these all have it, the first of those seen are kept.
    """
    scores_QN, positions_QN = find(queries_QD, min(k + 1, limit))
    if not np.count_nonzero(scores_QN[:, 1:] == scores_QN[:, :-1]):
        return scores_QN[:, :k], positions_QN[:, :k]
    ranked = in_order(scores_QN, positions_QN, k)
    if k < scores_QN.shape[1]:
        is_cut_Q = (scores_QN[:, k - 1] == scores_QN[:, k]) & (positions_QN[:, k] >= 0)
        if is_cut_Q.any():
            more = find(queries_QD[is_cut_Q], min(16 * (k + 1), limit))
            ranked[0][is_cut_Q], ranked[1][is_cut_Q] = in_order(*more, k)
    return ranked


def open_shard(path: Path, description: IndexDescription, *, count: int, memory_map: bool) -> faiss.Index:
    """The FAISS index in ``path``, set to search as described. Raises ``IndexMismatchError`` if it is another.

    A damaged file can crash the reader, so compare its hash with the manifest first.
    """
    # One flag maps every kind; the older IO_FLAG_MMAP knows only IVF, and starts threads in each of its searches.
    flags = faiss.IO_FLAG_MMAP_IFC if memory_map else 0
    try:
        index = faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise IndexMismatchError(f"{path} cannot be read ({error}); fetch the index again, or build it again") from None
    _check_is(index, path, description, count)
    if description.ef_search is not None:
        index.hnsw.efSearch = description.ef_search
    if description.num_probes is not None:
        faiss.extract_index_ivf(index).nprobe = description.num_probes
    return index


def _check_is(index: faiss.Index, path: Path, description: IndexDescription, count: int) -> None:
    empty = faiss.index_factory(description.dimension, description.factory, faiss.METRIC_INNER_PRODUCT)
    if not isinstance(index, type(empty)) or (index.d, index.ntotal) != (description.dimension, count):
        raise IndexMismatchError(
            f"{path} is {type(index).__name__} of {index.ntotal:,} x {index.d}, expected {description.factory} of "
            f"{count:,} x {description.dimension}; fetch the index again, or build it again"
        )
