"""Read a judge's reply. It comes from outside: every doubt is an error, never a guess.

A reply names passages by labels in square brackets. Numbers outside brackets mean nothing.
"""

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

from winnow.errors import JudgmentParseError

_REASONING = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.DOTALL | re.IGNORECASE | re.ASCII)
_REASONING_END = re.compile(r"</think>", re.IGNORECASE | re.ASCII)
_GROUP = re.compile(r"\[([^\[\]]*)\]")
_LABELS = re.compile(r"\s*\d+(?:(?:\s*,\s*|\s+)\d+)*\s*", re.ASCII)
# What may stand between two labels. Other words there mean that the reply talks about passages one by one,
# as in "[1] is off-topic, [2] helps"; to read that as a list would select the first too.
_BETWEEN = re.compile(r"(?:[\s,;.&*`'\">|-]|and|then|passages?)*", re.IGNORECASE | re.ASCII)
# Are the labels between meant as well? "[1]-[5]", "[1], [2], ..., [9]". A dash after a line end is a bullet.
_RANGE = re.compile(r"[^\S\n]*-+[^\S\n]*|.*\.\s*\..*", re.DOTALL)
_DENIAL = re.compile(r"\b(?:not|no|none|neither|nor|except|irrelevant|useless|off-topic)\b|n['’]t\b", re.IGNORECASE)
# Brackets that are left when groups are taken out: nested, never closed, or of a kind that was not asked for.
_STRAY = re.compile(r"[\[\]［］【】]")


def parse_selection(reply: str, *, pool_size: int, among: Collection[int] | None = None) -> list[int]:
    """Zero-based positions in the order the reply names them, without repeats.

    ``among`` holds the positions that may be named, by default all of the pool. ``[none]`` is the only way to
    select nothing. Raises ``JudgmentParseError`` for all that cannot be read without guessing.

    >>> parse_selection("<think>[2] is off-topic</think> These help: [3], [1, 3]", pool_size=4)
    [2, 0]
    """
    _, answer = split_reasoning(reply)
    _check_brackets(answer)
    groups = list(_GROUP.finditer(answer))
    named = [group for group in groups if _holds_number(group[1])]
    is_none = any(group[1].strip().lower() == "none" for group in groups)
    if not named and not is_none:
        raise JudgmentParseError(f"expected labels such as [1] or [none], found neither in {_quote(answer)}")
    if named and is_none:
        raise JudgmentParseError(f"expected either labels or [none], found both in {_quote(answer)}")
    _check_between(answer, named)
    if named:
        _check_around(answer)
    labels = dict.fromkeys(label for group in named for label in _labels_of(group[1]))
    return _positions(list(labels), pool_size, range(pool_size) if among is None else among)


def parse_ranking(reply: str, *, pool_size: int, among: Collection[int] | None = None) -> list[int]:
    """Zero-based positions from best to worst; a passage that is named twice has its first place.

    Read like ``parse_selection``, whose errors it raises. ``[none]`` ranks nothing.

    >>> parse_ranking("[4] > [2] > [4]", pool_size=4)
    [3, 1]
    """
    return parse_selection(reply, pool_size=pool_size, among=among)


def parse_answer(reply: str) -> str:
    """The text of ``reply`` without reasoning. Raises ``JudgmentParseError`` when nothing is left."""
    answer = split_reasoning(reply)[1]
    if not answer:
        raise JudgmentParseError("expected an answer in one or two sentences, the reply is empty")
    return answer


def split_reasoning(text: str) -> tuple[str | None, str]:
    """What the model thought, if it did, and what it said.

    Reasoning that was cut off before it closed reaches to the end; where only its end is marked, it starts the text.

    >>> split_reasoning("<think>two fit</think>[1], [2]")
    ('two fit', '[1], [2]')
    """
    thoughts = _REASONING.findall(text)
    # A space in its place, so that what stood on both sides does not become one word.
    *unopened, answer = _REASONING_END.split(_REASONING.sub(" ", text))
    reasoning = "\n".join(thought.strip() for thought in (*unopened, *thoughts)).strip()
    return reasoning or None, answer.strip()


def labels_pattern(labels: Sequence[int], *, separator: str) -> str:
    """A regular expression for ``[none]`` or a list of ``labels``, no longer than they are many.

    Without that bound a weak model repeats labels until it is cut off.

    >>> labels_pattern([2, 5], separator=" > ")
    '\\\\[none\\\\]|\\\\[(?:2|5)\\\\](?: > \\\\[(?:2|5)\\\\]){0,1}'
    """
    label = rf"\[(?:{'|'.join(map(str, labels))})\]"
    more = f"(?:{separator}{label}){{0,{len(labels) - 1}}}" if len(labels) > 1 else ""
    return rf"\[none\]|{label}{more}"


def _check_brackets(answer: str) -> None:
    stray = _STRAY.search(_GROUP.sub("", answer))
    if stray is not None:
        raise JudgmentParseError(
            f"expected labels such as [1], found {stray[0]!r} that is nested or has no partner in {_quote(answer)}"
        )


def _check_between(answer: str, named: Sequence[re.Match[str]]) -> None:
    for label, following in pairwise(named):
        between = answer[label.end() : following.start()]
        if _RANGE.fullmatch(between) or not _BETWEEN.fullmatch(between):
            raise JudgmentParseError(f"expected a list of labels, found {_quote(between)} between two of them")


def _check_around(answer: str) -> None:
    """One label among words that take it back, such as ``[1] is off-topic``, is no selection."""
    denial = _DENIAL.search(_GROUP.sub("", answer))
    if denial is not None:
        raise JudgmentParseError(f"expected a list of labels, found {denial[0]!r} beside them in {_quote(answer)}")


def _holds_number(group: str) -> bool:
    return any(character.isnumeric() for character in group)


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
