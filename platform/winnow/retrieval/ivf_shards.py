"""IVF indexes with the same lists, searched as one: which lists are nearest to a query is found once for all of them.

Legend: Q queries, K results, D dimension, L lists looked through.
"""

from collections.abc import Sequence
from itertools import accumulate

import faiss
import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.ranking import Ranked, in_order, no_results
from winnow.retrieval.subset import Subset


class IvfShards:
    """What ``build_index`` wrote in several files. Positions count from the first vector of the first.

    Safe to share between threads.
    """

    def __init__(self, indexes: Sequence[faiss.Index]) -> None:
        # They own what is used of them below.
        self._indexes = indexes
        self._ivfs = [faiss.extract_index_ivf(index) for index in indexes]
        self._starts = list(accumulate((index.ntotal for index in indexes[:-1]), initial=0))
        self.ntotal: int = sum(index.ntotal for index in indexes)
        """Vectors in all of them."""
        self._together = faiss.IndexShardsIVF(self._ivfs[0].quantizer, self._ivfs[0].nlist, False, True)
        for ivf in self._ivfs:
            self._together.addIndex(ivf)

    def search(self, queries_QD: NDArray[np.float32], k: int) -> Ranked:
        """The ``k`` best, equal scores in any order."""
        return self._together.search(self._rotated(queries_QD), k)

    def search_among(self, queries_QD: NDArray[np.float32], k: int, subset: Subset, num_probes: int) -> Ranked:
        """The ``k`` best members of ``subset`` in ``num_probes`` lists."""
        queries_QD = self._rotated(queries_QD)
        nearest = self._ivfs[0].quantizer.search(queries_QD, num_probes)
        found = [no_results(len(queries_QD), k)]
        for ivf, start in zip(self._ivfs, self._starts, strict=True):
            part = subset.part(start, start + ivf.ntotal)
            if part.count:
                scores_QK, positions_QK = _search_lists(ivf, queries_QD, nearest, k, part)
                found.append((scores_QK, np.where(positions_QK < 0, -1, positions_QK + start)))
        return in_order(*(np.hstack(column) for column in zip(*found, strict=True)), k)

    def _rotated(self, queries_QD: NDArray[np.float32]) -> NDArray[np.float32]:
        """As the lists hold their vectors."""
        queries_QD = np.ascontiguousarray(queries_QD, dtype=np.float32)
        first = self._indexes[0]
        return first.chain.at(0).apply(queries_QD) if isinstance(first, faiss.IndexPreTransform) else queries_QD


def _search_lists(
    ivf: faiss.IndexIVF, queries_QD: NDArray[np.float32], nearest: Ranked, k: int, subset: Subset
) -> Ranked:
    """The ``k`` best members of ``subset`` in the lists ``nearest``, which are given with their scores."""
    scores_QL, lists_QL = nearest
    found = no_results(len(queries_QD), k)
    parameters = faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(subset.bitmap), nprobe=lists_QL.shape[1])
    queries, lists, scores, *results = map(faiss.swig_ptr, (queries_QD, lists_QL, scores_QL, *found))
    # FAISS's own wrapper takes no parameters.
    ivf.search_preassigned_c(len(queries_QD), queries, k, lists, scores, *results, False, parameters)
    return found
