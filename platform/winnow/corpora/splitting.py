"""Which questions belong to which split: what dev or a test collection asks is never trained on, nothing twice.

Dev and test questions are those that their qrels name; a training question that one of them has, word for word
up to spelling, leaves the training set, and a dev question that a test collection has leaves dev. Of equal training
questions the first stands for all: as two, each would have the positives of the other as negatives.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from winnow.corpora.beir import Qrel
from winnow.corpora.store import Split, group_qrels
from winnow.errors import ConfigError
from winnow.records import Query

_ENDINGS = ".?!;…。؟۔।"
"""What may stand at the end of a question without changing what it asks."""
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        # Soft hyphens, zero-width characters and marks of direction cannot be seen.
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"),
    }
)
"""Typographic characters as a keyboard has them."""


@dataclass(frozen=True)
class RawSplit:
    """The usable rows of a split's files. ``named`` are the queries that the qrels file names; ``None`` without one."""

    name: str
    corpus: str
    queries: Sequence[Query]
    named: frozenset[str] | None = None
    pairs: Sequence[Qrel] = ()
    relevant_from: int = 1
    left_out: Counter[str] = field(default_factory=Counter)
    """Queries that were left out, by why."""

    def checked(self) -> Split:
        """The split as it is stored: qrels of its own queries alone."""
        kept = {query.query_id for query in self.queries}
        qrels = group_qrels(pair for pair in self.pairs if pair[0] in kept)
        return Split(self.name, self.corpus, tuple(self.queries), qrels, self.relevant_from)


def separate(
    train: RawSplit, dev: RawSplit | None, tests: Sequence[RawSplit], *, questions: Literal["judged", "all"] | None
) -> list[RawSplit]:
    """Train, dev where there is one, and the test collections, no question in two of the three.

    ``questions`` is ``data.train.questions``. Raises ``ConfigError`` if it is needed and not given.
    """
    tests = [_judged(split) for split in tests]
    devs = [] if dev is None else [_without(_judged(dev), tests)]
    return [_distinct(_without(_chosen(train, questions), [*tests, *devs])), *devs, *tests]


def question_key(text: str) -> str:
    """Equal for texts that ask the same in the same words, whatever their case, spacing, typography and final mark.

    >>> question_key("Who  wrote “Émile”? ")
    'who wrote "émile'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.translate(_PLAIN)).casefold())
    words = " ".join(folded.split())
    return words.rstrip(_ENDINGS + '" ').lstrip('¿¡" ') or words


def _chosen(train: RawSplit, questions: Literal["judged", "all"] | None) -> RawSplit:
    named = train.named
    if named is None or questions == "all":
        return train
    judged = sum(query.query_id in named for query in train.queries)
    if questions is None and judged < len(train.queries):
        raise ConfigError(
            f"data.train.qrels name {judged:,} of the {len(train.queries):,} questions in data.train.queries, and the "
            f"others may be those of dev or test: set `data.train.questions: judged` to train on those {judged:,}, or "
            f"`all` to have all of them labelled"
        )
    return _judged(train)


def _judged(split: RawSplit) -> RawSplit:
    assert split.named is not None, split.name
    return _keep(split, [query for query in split.queries if query.query_id in split.named], "not in its qrels")


def _distinct(split: RawSplit) -> RawSplit:
    """Each question once, with the labels of all that ask the same."""
    first_of: dict[str, str] = {}
    names = {query.query_id: first_of.setdefault(question_key(query.query), query.query_id) for query in split.queries}
    kept = [query for query in split.queries if names[query.query_id] == query.query_id]
    pairs = [(names.get(query_id, query_id), passage_id, grade) for query_id, passage_id, grade in split.pairs]
    return _keep(replace(split, pairs=pairs), kept, "asked before")


def _without(split: RawSplit, others: Iterable[RawSplit]) -> RawSplit:
    for other in others:
        taken = {question_key(query.query) for query in other.queries}
        kept = [query for query in split.queries if question_key(query.query) not in taken]
        split = _keep(split, kept, f"asked by {other.name}")
    return split


def _keep(split: RawSplit, queries: Sequence[Query], why: str) -> RawSplit:
    left_out = Counter(split.left_out)
    if gone := len(split.queries) - len(queries):
        left_out[why] += gone
    return replace(split, queries=queries, left_out=left_out)
