"""Exact dense search over embeddings in memory, without an index. For an index use ``vector_index.py``."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.errors import DataError
from winnow.records import ScoredPassage
from winnow.retrieval.ranking import best, tie_order

_BLOCK = 64
"""Queries whose scores are held at a time."""


class ExactSearch:
    """Searches embeddings by dot product, on ``device``.

    Made once per corpus: it sorts the ids, which decide between equal scores.
    """

    def __init__(
        self, passage_ids: Sequence[str], passages_PD: NDArray[np.float32], *, device: Literal["cpu", "cuda"] = "cpu"
    ) -> None:
        self._passage_ids = passage_ids
        self._device = device
        # On a CPU numpy's own product, which is the one that results were always computed with.
        self._passages_PD = passages_PD if device == "cpu" else torch.from_numpy(passages_PD).to(device)
        self._tie_order_P = tie_order(passage_ids)

    def search(self, queries_QD: NDArray[np.float32], *, k: int) -> list[list[ScoredPassage]]:
        """The ``k`` passages with the highest score per query, best first; ids and scores only."""
        if len(self._passages_PD) and queries_QD.shape[1] != self._passages_PD.shape[1]:
            raise DataError(f"queries have {queries_QD.shape[1]} dimensions and passages {self._passages_PD.shape[1]}")
        ranked = []
        for start in range(0, len(queries_QD), _BLOCK):
            for scores_P in self._scores(queries_QD[start : start + _BLOCK]):
                positions = best(scores_P, self._tie_order_P, k)
                ranked.append([ScoredPassage(self._passage_ids[p], float(scores_P[p])) for p in positions])
        return ranked

    def _scores(self, queries_QD: NDArray[np.float32]) -> NDArray[np.float32]:
        """``scores_QP``."""
        if isinstance(self._passages_PD, torch.Tensor):
            return (torch.from_numpy(queries_QD).to(self._device) @ self._passages_PD.T).cpu().numpy()
        return queries_QD @ self._passages_PD.T
