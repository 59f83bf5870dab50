"""BM25 as Lucene scores it: k1 1.5, b 0.75, English stop words left out, words stemmed.

Importing this loads numba, which vLLM on a CPU does not stand in its process.
"""

from collections.abc import Sequence
from typing import Self

import bm25s
import numpy as np
import Stemmer
from numpy.typing import NDArray

from winnow.errors import DataError
from winnow.modeling.text import passage_text
from winnow.records import Passage, ScoredPassage
from winnow.retrieval.ranking import best, tie_order


class BM25:
    """Lexical search over passages held in memory."""

    def __init__(self, index: bm25s.BM25, passages: Sequence[Passage]) -> None:
        self._index = index
        self._passages = passages
        self._tie_order_P = tie_order([passage.passage_id for passage in passages])

    @classmethod
    def build(cls, passages: Sequence[Passage]) -> Self:
        """The index of ``passages``. Raises ``DataError`` if they hold no word that could be searched."""
        tokens = _tokenize([passage_text(passage) for passage in passages])
        if not any(tokens):
            raise DataError(f"the {len(passages)} passages of the corpus hold no word to search; check the corpus file")
        index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        index.index(tokens, show_progress=False)
        return cls(index, passages)

    def search(self, queries: Sequence[str], k: int) -> list[list[ScoredPassage]]:
        """At most ``k`` passages per query, best first. Passages that share no word with it are left out."""
        return [self._search(tokens, k) for tokens in _tokenize(queries)]

    def scores(self, query: str, positions: Sequence[int]) -> NDArray[np.float32]:
        """The scores of the passages at ``positions``; 0 for one that shares no word with ``query``."""
        known = self._index.get_tokens_ids(_tokenize([query])[0])
        if not known:
            return np.zeros(len(positions), dtype=np.float32)
        return self._index.get_scores_from_ids(known)[np.asarray(positions, dtype=np.int64)]

    def _search(self, tokens: list[str], k: int) -> list[ScoredPassage]:
        known = self._index.get_tokens_ids(tokens)
        if not known:
            return []
        scores_P = self._index.get_scores_from_ids(known)
        positions = [position for position in best(scores_P, self._tie_order_P, k) if scores_P[position] > 0]
        return [self._result(position, scores_P[position]) for position in positions]

    def _result(self, position: int, score: np.floating) -> ScoredPassage:
        passage = self._passages[position]
        return ScoredPassage(passage.passage_id, float(score), passage.title, passage.text)


def _tokenize(texts: Sequence[str]) -> list[list[str]]:
    # A stemmer is not safe to share between threads, and cheap to make.
    stemmer = Stemmer.Stemmer("english")
    return bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
