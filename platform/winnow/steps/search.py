"""Ask the trained retriever from the command line or a notebook."""

from collections.abc import Sequence

from winnow.records import ScoredPassage
from winnow.retrieval.retriever import load_retriever
from winnow.steps import index
from winnow.steps.config import RunConfig
from winnow.steps.workspace import find


def search(config: RunConfig, queries: Sequence[str], k: int) -> list[list[ScoredPassage]]:
    """At most ``k`` passages per query, best first. Raises ``DataError`` if there is no index yet."""
    return load_retriever(find(index.plan(config)).directory).search(queries, k)
