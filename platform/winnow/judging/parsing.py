"""Read a judge's reply. It comes from outside: every doubt is an error, never a guess.

What the model thought is no part of a reply: its engine has split that off. A reply names passages by labels in square
brackets, in one of few forms: a bare list, a list behind a few known words, or ``[none]``. No list of denials could be
complete ("all but [2]", "I would exclude [2]", "[1] ist nicht relevant"), so a reply that says anything else is an
error, whatever it says.
"""

import re
from collections.abc import Collection, Sequence

from winnow.errors import JudgmentParseError

LISTWISE_READING_VERSION = 3
"""How replies are read; no part of a judge's identity. Raise it when a reply can be read differently from before:
stored replies are then read again, and a query for which that makes a difference is judged again."""

_GROUP = re.compile(r"\[([^\[\]]*)\]")
_LABELS = re.compile(r"\s*\d+(?:(?:\s*,\s*|\s+)\d+)*\s*", re.ASCII)
_BULLET = re.compile(r"^[^\S\n]*[-*•][^\S\n]+", re.MULTILINE)
_EMPHASIS = re.compile(r"[*`\"]")


def _one_of(*forms: str) -> str:
    return f"(?:{'|'.join(forms)})"


# The forms, over a reply in which [] stands for each group of labels, • for a bullet and one space for any other.
_ITEM = r"(?:passages? )?\[\]"
_LIST = _one_of(
    rf"{_ITEM}(?:(?: ?[,;&，、；] ?| )(?:(?:and|then) )?{_ITEM})*",
    r"\[\](?:\[\])+",
    rf"• {_ITEM}[,;.]?(?: • {_ITEM}[,;.]?)*",
)
_ORDER = rf"{_ITEM}(?: ?[>＞] ?{_ITEM})+"
_OPENING = _one_of(
    r"(?:my |the )?(?:selection|ranking|answer)(?: is)?:?",
    r"(?:the )?(?:relevant|useful|helpful|selected) passages(?: are)?:?",
    r"these (?:passages )?(?:help|are relevant|are useful):",
    r"passages?:",
    r"i select:?",
)
_ENDING = _one_of("helps?", "(?:is|are) relevant", "(?:is|are) useful")


def _form(labels: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{_OPENING} )?{labels}[.。]?|{labels} {_ENDING}[.。]?")


_SELECTION = _form(_LIST)
_RANKING = _form(_one_of(_LIST, _ORDER))


def parse_selection(reply: str, *, pool_size: int, among: Collection[int] | None = None) -> list[int]:
    """Zero-based positions in the order the reply names them, without repeats.

    ``among`` holds the positions that may be named, by default all of the pool. ``[none]`` is the only way to
    select nothing. Raises ``JudgmentParseError`` for all that has none of the known forms, and for an order, as
    ``[3] > [1]``: a model that orders what it was to select from may not mean to keep the last.

    >>> parse_selection("These help: [3], [1, 3]", pool_size=4)
    [2, 0]
    """
    return _read(reply, _SELECTION, pool_size=pool_size, among=among)


def parse_ranking(reply: str, *, pool_size: int, among: Collection[int] | None = None) -> list[int]:
    """Zero-based positions from best to worst; a passage that is named twice has its first place.

    Read like ``parse_selection``, with its errors, but for ``>`` between labels. ``[none]`` ranks nothing.

    >>> parse_ranking("[4] > [2] > [4]", pool_size=4)
    [3, 1]
    """
    return _read(reply, _RANKING, pool_size=pool_size, among=among)


def parse_answer(reply: str) -> str:
    """The text of ``reply``. Raises ``JudgmentParseError`` when there is none."""
    answer = reply.strip()
    if not answer:
        raise JudgmentParseError("expected an answer in one or two sentences, the reply is empty")
    return answer


def labels_pattern(labels: Sequence[int], *, separator: str) -> str:
    """A regular expression for ``[none]`` or a list of ``labels``, no longer than they are many.

    Without that bound a weak model repeats labels until it is cut off.

    >>> labels_pattern([2, 5], separator=" > ")
    '\\\\[none\\\\]|\\\\[(?:2|5)\\\\](?: > \\\\[(?:2|5)\\\\]){0,1}'
    """
    label = rf"\[(?:{'|'.join(map(str, labels))})\]"
    more = f"(?:{separator}{label}){{0,{len(labels) - 1}}}" if len(labels) > 1 else ""
    return rf"\[none\]|{label}{more}"


def _read(reply: str, form: re.Pattern[str], *, pool_size: int, among: Collection[int] | None) -> list[int]:
    groups = [group.strip() for group in _GROUP.findall(reply)]
    if not groups:
        raise JudgmentParseError(f"expected labels such as [1] or [none], found neither in {_quote(reply)}")
    if not form.fullmatch(_skeleton(reply)):
        raise JudgmentParseError(
            f"expected a list of labels and no words but a few known ones, such as '[1], [3]', found {_quote(reply)}"
        )
    if [group.lower() for group in groups] == ["none"]:
        return []
    labels = dict.fromkeys(label for group in groups for label in _labels_of(group))
    return _positions(list(labels), pool_size, range(pool_size) if among is None else among)


def _skeleton(answer: str) -> str:
    """``answer`` in lower case, without emphasis and without what stands in brackets.

    >>> _skeleton("**Useful passages:**\\n* [1]\\n* [2, 3]")
    'useful passages: • [] • []'
    """
    bare = _EMPHASIS.sub("", _BULLET.sub("• ", _GROUP.sub("[]", answer)))
    return " ".join(bare.lower().split())


def _labels_of(group: str) -> list[str]:
    if not _LABELS.fullmatch(group):
        raise JudgmentParseError(f"expected labels such as [1] or [1, 4], found {_quote(f'[{group}]')}")
    return re.findall(r"\d+", group)


def _positions(labels: Sequence[str], pool_size: int, among: Collection[int]) -> list[int]:
    # Compared as text: int() refuses a number of thousands of digits, and would take 01 for 1.
    known = {str(position + 1): position for position in range(pool_size)}
    outside = [_quote(label) for label in labels if label not in known]
    if outside:
        raise JudgmentParseError(
            f"expected labels from 1 to {pool_size}, found {', '.join(outside[:5])}; "
            f"a model that often names passages it was not shown is too weak for this prompt"
        )
    positions = [known[label] for label in labels]
    barred = [position + 1 for position in positions if position not in among]
    if barred:
        raise JudgmentParseError(f"expected labels that an earlier round kept, found {barred[:5]}")
    return positions


def _quote(text: str) -> str:
    return repr(text.strip()[:60])
