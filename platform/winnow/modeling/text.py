"""What an encoder, and BM25, read of a passage. One place, because training and searching must read the same."""

from winnow.records import Passage

ENCODING_VERSION = "1"
"""Part of the key of every cache of tokens and vectors. Raise it when our code makes other ones of the same texts."""


def passage_text(passage: Passage) -> str:
    """Title and text as one string.

    >>> passage_text(Passage("p1", "A mammal.", title="Otter")), passage_text(Passage("p2", "A mammal."))
    ('Otter A mammal.', 'A mammal.')
    """
    return f"{passage.title} {passage.text}" if passage.title else passage.text
