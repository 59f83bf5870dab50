"""What the scorers that need no language model say of the same pairs, and which passages are siblings."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from winnow.audit.pairs import JudgedPairs
from winnow.records import Passage
from winnow.retrieval.bm25 import BM25
from winnow.retrieval.config import Language


def lexical_scores(
    passages: Sequence[Passage], pairs: JudgedPairs, queries: Sequence[str], language: Language
) -> NDArray[np.float64]:
    """BM25 over the whole corpus, for each of ``pairs``. ``queries`` are the texts of their queries."""
    lexical = BM25.build(passages, language)
    places_N = _places([passage.passage_id for passage in passages], pairs)
    scores_N = np.zeros(len(places_N))
    for query, (_, span) in zip(queries, pairs.spans(), strict=True):
        scores_N[span] = lexical.scores(query, places_N[span])
    return scores_N


def dense_scores(
    passage_ids: Sequence[str],
    passages_PD: NDArray[np.float32],
    queries_QD: NDArray[np.float32],
    pairs: JudgedPairs,
) -> NDArray[np.float64]:
    """Dot products of queries and passages, for each of ``pairs``."""
    places_N = _places(passage_ids, pairs)
    scores_N = np.zeros(len(places_N))
    for query_D, (_, span) in zip(queries_QD, pairs.spans(), strict=True):
        scores_N[span] = passages_PD[places_N[span]] @ query_D
    return scores_N


def documents_of(passages: Sequence[Passage], pairs: JudgedPairs) -> NDArray[np.int64]:
    """A number for the document of each pair's passage, so that siblings have equal ones; -1 where it is not known."""
    documents = {passage.passage_id: passage.document_id for passage in passages}
    numbers = {name: number for number, name in enumerate(dict.fromkeys(documents.values())) if name is not None}
    return np.array([numbers.get(documents[passage_id], -1) for passage_id in pairs.passage_id_N], dtype=np.int64)


def _places(passage_ids: Sequence[str], pairs: JudgedPairs) -> NDArray[np.int64]:
    place_of = {passage_id: place for place, passage_id in enumerate(passage_ids)}
    return np.array([place_of[passage_id] for passage_id in pairs.passage_id_N], dtype=np.int64)
