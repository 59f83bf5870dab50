"""Which passages does an answer cite? Read from the generator's reply alone, and nothing is guessed."""

import re

_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
_CITATION = re.compile(r"\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]", re.ASCII)
_SENTINEL = "[none]"


def says_none(reply: str) -> bool:
    """Whether the model says that the passages do not answer; wherever in its reply it does."""
    return _SENTINEL in _CODE.sub(" ", reply).lower()


def find_citations(reply: str) -> list[str]:
    """The numbers in square brackets as they are written, each once. Brackets in code cite nothing.

    They stay text: ``int`` would take 01 for 1, and refuses a number of thousands of digits.

    >>> find_citations("Paris [2], on the Seine [1, 2]. See `rows[7]` and [2-4].")
    ['2', '1']
    """
    prose = _CODE.sub(" ", reply)
    return list(dict.fromkeys(number for group in _CITATION.findall(prose) for number in re.findall(r"\d+", group)))
