"""Rows of JSON: an object per line, or one array of objects."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import chain
from typing import Any, BinaryIO

from winnow.corpora.raw import BadRow, RawRow, decoded, is_blank

_LONGEST_NUMBER = 4000
"""Digits; Python refuses to read more than 4,300."""


def json_rows(file: BinaryIO) -> Iterator[RawRow]:
    """The objects of a file, whichever of the two ways it has."""
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


def _lines(lines: Iterable[bytes]) -> Iterator[RawRow]:
    for number, line in enumerate(lines, start=1):
        if not is_blank(line):
            yield RawRow(number, line, _parsed(line))


def _parsed(line: bytes) -> dict[str, Any] | BadRow:
    try:
        return _object(json.loads(decoded(line)))
    except BadRow as bad:
        return bad
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        return BadRow("malformed_json", f"expected a JSON object ({error})")


def _elements(text: bytes) -> Iterator[RawRow]:
    try:
        values = json.loads(decoded(text), parse_int=_whole_number)
    except (BadRow, ValueError, RecursionError):
        return _lines(BytesIO(text))
    return (RawRow(number, value, _object_or_bad(value)) for number, value in enumerate(values, start=1))


def _whole_number(digits: str) -> int | float:
    # One such number must not make the whole array unreadable.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float("inf")


def _object_or_bad(value: object) -> dict[str, Any] | BadRow:
    try:
        return _object(value)
    except BadRow as bad:
        return bad


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRow("not_an_object", f"expected a JSON object, got {type(value).__name__}")
    return value


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(decoded(line))
    except (BadRow, ValueError, RecursionError):
        return False
    return True
