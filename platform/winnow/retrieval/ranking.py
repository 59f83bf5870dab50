"""Best first, the same every time: equal scores are ordered by passage id."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def tie_order(passage_ids: Sequence[str]) -> NDArray[np.int64]:
    """The place of each passage in the order of ids."""
    places = np.empty(len(passage_ids), dtype=np.int64)
    places[sorted(range(len(passage_ids)), key=passage_ids.__getitem__)] = np.arange(len(passage_ids))
    return places


def best(scores_P: NDArray[np.floating], tie_order_P: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Positions of the ``k`` highest scores (of all, if there are fewer), best first.

    >>> best(np.array([1.0, 3.0, 3.0, 2.0]), tie_order(["d", "c", "b", "a"]), k=3).tolist()
    [2, 1, 3]
    """
    k = min(k, len(scores_P))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    # All that reach the k-th score, so that a tie across the cut is decided by id as well.
    reaching = np.flatnonzero(scores_P >= np.partition(scores_P, -k)[-k])
    return reaching[np.lexsort((tie_order_P[reaching], -scores_P[reaching]))][:k]
