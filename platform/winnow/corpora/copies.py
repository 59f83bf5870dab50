"""Passages of one corpus that say the same under several ids.

The first of them in the corpus stands for all: in pools, labels and mining there is no other. What is searched and
measured keeps every one of them, because qrels name ids.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import pyarrow as pa

from winnow.modeling.text import passage_text
from winnow.records import Passage, ScoredPassage


def text_hash(passage: Passage) -> str:
    """Equal for passages that models read alike: title and text, whatever their spacing and way of composing letters.

    >>> text_hash(Passage("p1", "A  mammal.", title="Otter")) == text_hash(Passage("p2", "Otter A mammal."))
    True
    """
    words = " ".join(unicodedata.normalize("NFC", passage_text(passage)).split())
    return sha256(words.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Copies:
    """Which passages are copies of which. Those that are not are in no mapping."""

    first_of: Mapping[str, str]

    def name(self, passage_id: str) -> str:
        """The id that stands for the passage."""
        return self.first_of.get(passage_id, passage_id)

    def rows_without(self, passage_ids: Sequence[str]) -> list[int]:
        """The places of those of ``passage_ids`` that are no copies."""
        return [row for row, passage_id in enumerate(passage_ids) if passage_id not in self.first_of]

    def grades(self, grades: Mapping[str, int]) -> dict[str, int]:
        """One query's ``grades``, a copy's given to the passage that stands for it; of several the best."""
        merged: dict[str, int] = {}
        for passage_id, grade in grades.items():
            name = self.name(passage_id)
            merged[name] = max(grade, merged.get(name, grade))
        return merged

    def distinct(self, hits: Sequence[ScoredPassage]) -> list[ScoredPassage]:
        """A ranked list in which each text stands once, where it stood first."""
        found: dict[str, ScoredPassage] = {}
        for hit in hits:
            name = self.name(hit.passage_id)
            found.setdefault(name, hit if name == hit.passage_id else replace(hit, passage_id=name))
        return list(found.values())


def find_copies(table: pa.Table) -> Copies:
    """The copies in a corpus with the columns ``passage_id`` and ``text_hash``."""
    # Numbers in the order in which the hashes first come up.
    numbers_P = table["text_hash"].cast(pa.large_string()).combine_chunks().dictionary_encode().indices.to_numpy()
    _, first_of_hash = np.unique(numbers_P, return_index=True)
    first_P = first_of_hash[numbers_P]
    copies = np.flatnonzero(first_P != np.arange(len(first_P)))
    ids = table["passage_id"]
    names, firsts = (ids.take(pa.array(rows)).to_pylist() for rows in (copies, first_P[copies]))
    return Copies(dict(zip(names, firsts, strict=True)))
