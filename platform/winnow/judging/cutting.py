"""Shorten passages before they are judged."""

from collections.abc import Sequence

from winnow.engines.protocol import Engine

_LONGEST_WORD = 30
"""Characters. What is longer between two spaces is a text of a script without spaces, or may be."""
_TOKENS_PER_WORD = 2
"""Where words cannot be counted. Texts with spaces have about 1.3."""


async def cut_passages(engine: Engine, texts: Sequence[str], *, max_words: int) -> list[str]:
    """Each of ``texts`` up to its ``max_words``-th word; where words are not spaced, to twice as many tokens."""
    kept = [cut_words(text, max_words) for text in texts]
    max_tokens = _TOKENS_PER_WORD * max_words
    unspaced = [place for place, text in enumerate(kept) if any(len(word) > _LONGEST_WORD for word in text.split())]
    while unspaced:
        sizes = await engine.count_tokens([kept[place] for place in unspaced])
        sizes_of_long = {place: size for place, size in zip(unspaced, sizes, strict=True) if size > max_tokens}
        for place, size in sizes_of_long.items():
            length = len(kept[place])
            kept[place] = cut_characters(kept[place], min(length - 1, length * max_tokens // size))
        unspaced = list(sizes_of_long)
    return kept


def cut_words(text: str, max_words: int) -> str:
    """``text`` up to the end of its ``max_words``-th word, its spacing kept.

    >>> cut_words("one  two three", 2)
    'one  two'
    """
    words = text.split(maxsplit=max_words)
    return text if len(words) <= max_words else text[: -len(words[-1])].rstrip()


def cut_characters(text: str, max_characters: int) -> str:
    """At most ``max_characters`` of ``text``, up to the end of a word where there is one.

    For texts without spaces, and where words are too coarse.

    >>> cut_characters("one two three", 9), cut_characters("onetwothree", 6)
    ('one two', 'onetwo')
    """
    if len(text) <= max_characters:
        return text
    kept, following = text[:max_characters].rstrip(), text[max_characters]
    words = kept.split()
    is_inside_word = len(kept) == max_characters and not following.isspace()
    return kept[: -len(words[-1])].rstrip() if is_inside_word and len(words) > 1 else kept
