"""Shorten passages before they are judged."""


def cut_words(text: str, max_words: int) -> str:
    """``text`` up to the end of its ``max_words``-th word, its spacing kept.

    >>> cut_words("one  two three", 2)
    'one  two'
    """
    words = text.split(maxsplit=max_words)
    return text if len(words) <= max_words else text[: -len(words[-1])].rstrip()


def is_cut(text: str, max_words: int) -> bool:
    """Whether ``cut_words`` leaves something out."""
    return len(text.split(maxsplit=max_words)) > max_words


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
