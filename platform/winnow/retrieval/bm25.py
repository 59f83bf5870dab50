"""BM25 as Lucene scores it, with k1 1.5 and b 0.75. What a word is, ``words.py`` says.

Importing this loads numba, which vLLM on a CPU does not stand in its process.
Legend: P passages, K results of a query.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Self

import bm25s
import numpy as np
from numpy.typing import NDArray

from winnow.errors import DataError
from winnow.modeling.text import passage_text
from winnow.records import Passage, ScoredPassage
from winnow.retrieval.arrays import open_array
from winnow.retrieval.config import Language
from winnow.retrieval.fusion import RankedList
from winnow.retrieval.ranking import best, tie_order
from winnow.retrieval.subset import Subset
from winnow.retrieval.words import split_words

_TIES = "tie_order.npy"
_BLOCK = 8192
"""Passages whose words are held as text at a time."""


class LexicalIndex:
    """BM25 over positions; it keeps no passage. Safe to share between threads."""

    def __init__(self, index: bm25s.BM25, tie_order_P: NDArray[np.integer], language: Language) -> None:
        self._index = index
        self._language = language
        self.tie_order_P = tie_order_P

    @classmethod
    def build(cls, passages: Iterable[Passage], language: Language) -> Self:
        """The index of ``passages``, of which only numbers for words are kept in memory.

        Raises ``DataError`` if they hold no word that could be searched.
        """
        rows, vocabulary, passage_ids = _number_words(passages, language)
        if not vocabulary:
            raise DataError(
                f"the {len(passage_ids)} passages of the corpus hold no word to search; check the corpus file"
            )
        index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        tokens = bm25s.tokenization.Tokenized(ids=rows, vocab=vocabulary)
        index.index(tokens, create_empty_token=False, show_progress=False)
        return cls(index, tie_order(passage_ids).astype(np.int32), language)

    @classmethod
    def load(cls, directory: Path, language: Language, *, memory_map: bool = True) -> Self:
        """The index in ``directory``, built for ``language``; memory-mapped, only its vocabulary is in memory."""
        index = bm25s.BM25.load(directory, mmap=memory_map, allow_pickle=False, show_progress=False)
        # A plain view of the mapped file: the library's own type makes every slice several times slower.
        index.scores |= {name: np.asarray(index.scores[name]) for name in ("data", "indices", "indptr")}
        return cls(index, open_array(directory / _TIES, memory_map=memory_map), language)

    def save(self, directory: Path) -> None:
        """Write the index into ``directory``: arrays as .npy, vocabulary and settings as JSON."""
        self._index.save(directory, allow_pickle=False, show_progress=False)
        np.save(directory / _TIES, self.tie_order_P, allow_pickle=False)

    @property
    def count(self) -> int:
        """P."""
        return len(self.tie_order_P)

    def rank(
        self, queries: Sequence[str], k: int, *, among: Subset | None = None, most_words: int | None = None
    ) -> list[RankedList]:
        """Per query at most ``k`` scores and positions, best first. Passages that share no word with it are left out;
        equal scores are ordered by passage id.

        Of a query with more than ``most_words`` different words only the rarest count; ``words_cut`` tells of the rest.
        """
        return [self._rank(self._count(tokens), k, among, most_words) for tokens in self._split(queries)]

    def words_cut(self, queries: Sequence[str], most_words: int) -> list[int]:
        """How many different words of each query do not count in ``rank`` with ``most_words``."""
        # There are no more words than characters, so a short query needs no second look.
        if all(len(query) <= most_words for query in queries):
            return [0] * len(queries)
        return [max(0, len(self._count(tokens)) - most_words) for tokens in self._split(queries)]

    def scores(self, query: str, positions: Sequence[int]) -> NDArray[np.float32]:
        """The scores of the passages at ``positions``; 0 for one that shares no word with ``query``."""
        return self._scores(self._count(self._split([query])[0]))[np.asarray(positions, dtype=np.int64)]

    def _split(self, texts: Sequence[str]) -> list[list[str]]:
        return split_words(texts, self._language)

    def _rank(self, counts: Counter[int], k: int, among: Subset | None, most_words: int | None) -> RankedList:
        if most_words is not None and len(counts) > most_words:
            counts = self._rarest(counts, most_words)
        scores_P = self._scores(counts)
        found = np.flatnonzero(scores_P) if among is None else _nonzero(scores_P, among.positions_S)
        positions = found[best(scores_P[found], self.tie_order_P[found], k)]
        return scores_P[positions], positions

    def _count(self, tokens: Sequence[str]) -> Counter[int]:
        """How often each word of the index is in ``tokens``, in the order they are met."""
        return Counter(self._index.get_tokens_ids(tokens))

    def _rarest(self, counts: Counter[int], most_words: int) -> Counter[int]:
        starts = self._index.scores["indptr"]
        rarest = sorted(counts, key=lambda word: starts[word + 1] - starts[word])[:most_words]
        return Counter({word: counts[word] for word in rarest})

    def _scores(self, counts: Mapping[int, int]) -> NDArray[np.float32]:
        """``scores_P``. The time depends on the different words alone, however often a query repeats them."""
        scores_P = np.zeros(self.count, dtype=np.float32)
        data, positions, starts = (self._index.scores[name] for name in ("data", "indices", "indptr"))
        for word, count in counts.items():
            passages = slice(starts[word], starts[word + 1])
            # A passage is in a word's list once, so nothing is added twice.
            scores_P[positions[passages]] += np.float32(count) * data[passages]
        return scores_P


def _nonzero(scores_P: NDArray[np.float32], positions_S: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions_S[scores_P[positions_S] != 0]


class BM25:
    """Lexical search over passages held in memory."""

    def __init__(self, index: LexicalIndex, passages: Sequence[Passage]) -> None:
        self._index = index
        self._passages = passages

    @classmethod
    def build(cls, passages: Sequence[Passage], language: Language) -> Self:
        """The index of ``passages``. Raises ``DataError`` if they hold no word that could be searched."""
        return cls(LexicalIndex.build(passages, language), passages)

    def search(self, queries: Sequence[str], k: int) -> list[list[ScoredPassage]]:
        """At most ``k`` passages per query, best first. Passages that share no word with it are left out."""
        return [
            [self._result(position, score) for score, position in zip(scores.tolist(), positions.tolist(), strict=True)]
            for scores, positions in self._index.rank(queries, k)
        ]

    def scores(self, query: str, positions: Sequence[int]) -> NDArray[np.float32]:
        """The scores of the passages at ``positions``; 0 for one that shares no word with ``query``."""
        return self._index.scores(query, positions)

    def _result(self, position: int, score: float) -> ScoredPassage:
        passage = self._passages[position]
        return ScoredPassage(passage.passage_id, score, passage.title, passage.text)


class _Rows:
    """The words of each passage, as numbers in one array: a list per passage would take ten times the memory."""

    def __init__(self) -> None:
        self._numbers = array("i")
        self._ends = array("q", [0])

    def append(self, row: Sequence[int]) -> None:
        self._numbers.extend(row)
        self._ends.append(len(self._numbers))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[array]:
        return (self._numbers[start:stop] for start, stop in pairwise(self._ends))


def _number_words(passages: Iterable[Passage], language: Language) -> tuple[_Rows, dict[str, int], list[str]]:
    """The words of each passage as numbers, the number of each word, and the passage ids."""
    rows, vocabulary, passage_ids = _Rows(), {}, []
    remaining = iter(passages)
    while block := list(islice(remaining, _BLOCK)):
        passage_ids += [passage.passage_id for passage in block]
        for words in split_words([passage_text(passage) for passage in block], language):
            # Numbered in the order they are met, so that equal passages give equal files.
            rows.append([vocabulary.setdefault(word, len(vocabulary)) for word in words])
    return rows, vocabulary, passage_ids
