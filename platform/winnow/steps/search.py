"""Ask the trained retriever from the command line or a notebook."""

from collections.abc import Sequence

from winnow.errors import ConfigError
from winnow.records import ScoredPassage
from winnow.retrieval.config import Mode
from winnow.retrieval.filtering import Filter, parse_filter
from winnow.retrieval.retriever import load_retriever
from winnow.steps import index
from winnow.steps.config import RunConfig
from winnow.steps.workspace import find


def search(
    config: RunConfig, queries: Sequence[str], k: int, *, mode: Mode = "dense", filter: Filter | None = None
) -> list[list[ScoredPassage]]:
    """At most ``k`` passages per query, best first. Raises ``DataError`` if there is no index yet."""
    retriever = load_retriever(find(index.plan(config)).directory, fusion=config.serve.fusion)
    return retriever.search(queries, k, mode=mode, filter=filter)


def parse_conditions(conditions: Sequence[str]) -> Filter | None:
    """The filter of ``field=value`` texts: a field that is repeated accepts each of its values. Raises ``ConfigError``.

    >>> parse_conditions(["source=wiki", "source=docs", "title=a=b"]).conditions
    (('source', ('docs', 'wiki')), ('title', ('a=b',)))
    """
    accepted: dict[str, list[str]] = {}
    for condition in conditions:
        field, separator, value = condition.partition("=")
        if not separator or not field:
            raise ConfigError(f"--filter {condition!r} is not of the form field=value")
        accepted.setdefault(field, []).append(value)
    return parse_filter(accepted) if accepted else None
