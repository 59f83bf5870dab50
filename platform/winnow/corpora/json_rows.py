"""Rows of JSON: an object per line, or one array of objects."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import chain
from typing import Any, BinaryIO

from winnow.corpora.layouts import Layout
from winnow.corpora.raw import BadRow, RawRow, decoded, is_blank

_Value = tuple[int, Any, object]
"""Place, the row as it stands, and its JSON value or the ``BadRow`` that says why it has none."""
_LONGEST_NUMBER = 4000
"""Digits; Python refuses to read more than 4,300."""


def json_rows(file: BinaryIO, layout: Layout) -> Iterator[RawRow]:
    """The objects of a file, whichever of the two ways it has."""
    return (RawRow(number, raw, _fields(value, layout)) for number, raw, value in _values(file))


def _fields(value: object, layout: Layout) -> dict[str, Any] | BadRow:
    if isinstance(value, dict):
        return layout.named(value)
    if isinstance(value, BadRow):
        return value
    return BadRow("not_an_object", f"expected a JSON object, got {type(value).__name__}")


def _values(file: BinaryIO) -> Iterator[_Value]:
    first = list(_up_to_text(file))
    if not b"".join(first).removeprefix(BOM_UTF8).lstrip().startswith(b"["):
        return _lines(chain(first, file))
    rest = file.read()
    if rest.strip() and _is_whole(first[-1]):
        # A line that is an array by itself, among others: a bad row of a file with a row per line.
        return _lines(chain(first, BytesIO(rest)))
    return _elements(b"".join(first) + rest)


def _up_to_text(file: BinaryIO) -> Iterator[bytes]:
    """Lines up to and with the first that is not blank."""
    for line in file:
        yield line
        if not is_blank(line):
            return


def _lines(lines: Iterable[bytes]) -> Iterator[_Value]:
    for number, line in enumerate(lines, start=1):
        if not is_blank(line):
            yield number, line, _parsed(line)


def _parsed(line: bytes) -> object:
    try:
        return json.loads(decoded(line))
    except BadRow as bad:
        return bad
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        return BadRow("malformed_json", f"expected a JSON object ({error})")


def _elements(text: bytes) -> Iterator[_Value]:
    try:
        values = json.loads(decoded(text), parse_int=_whole_number)
    except (BadRow, ValueError, RecursionError):
        return _lines(BytesIO(text))
    return ((number, value, value) for number, value in enumerate(values, start=1))


def _whole_number(digits: str) -> int | float:
    # One such number must not make the whole array unreadable.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float("inf")


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(decoded(line))
    except (BadRow, ValueError, RecursionError):
        return False
    return True
