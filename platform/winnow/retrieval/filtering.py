"""Filters: which passages a search may find, by the values of their fields."""

import sys
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from threading import Lock

from winnow.errors import DataError
from winnow.retrieval.fields import FieldIndex
from winnow.retrieval.subset import Subset

_MOST_SHOWN = 20
_MOST_BYTES = 256 * 2**20
"""Memory for filters of one version that were asked for lately, and for the passages that they let through."""
_OVERHEAD = 1000
"""Bytes of the objects around one filter and its passages, roughly."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Each field has one of its values. Equal filters are equal however they were written, and hashable."""

    conditions: tuple[tuple[str, tuple[str, ...]], ...]
    """Field and accepted values, both sorted; no conditions let every passage through."""


def parse_filter(raw: Mapping[str, str | Sequence[str]]) -> Filter:
    """The filter that ``raw`` describes: all fields must match, each with any of its values. Raises ``DataError``.

    >>> parse_filter({"source": ["wiki", "docs"], "document_id": "d1"}).conditions
    (('document_id', ('d1',)), ('source', ('docs', 'wiki')))
    """
    if not isinstance(raw, Mapping):
        raise DataError(f"a filter maps fields to values, such as {{'source': ['wiki']}}; got {raw!r:.80}")
    return Filter(tuple(sorted((_parse_field(field), _parse_values(field, values)) for field, values in raw.items())))


def check_fields(wanted: Filter, known: Collection[str]) -> None:
    """Returns if every field of ``wanted`` is among ``known``. Raises ``DataError`` that lists those."""
    unknown = [field for field, _ in wanted.conditions if field not in known]
    if unknown:
        shown = ", ".join(sorted(known)[:_MOST_SHOWN])
        more = f" and {len(known) - _MOST_SHOWN} more" if len(known) > _MOST_SHOWN else ""
        raise DataError(f"no passage has the field {unknown[0]!r:.80}; this version can be filtered by {shown}{more}")


def _parse_field(field: object) -> str:
    if not isinstance(field, str) or not field:
        raise DataError(f"a filter's field is a name, such as 'source' or 'document_id'; got {field!r:.80}")
    return field


def _parse_values(field: str, values: object) -> tuple[str, ...]:
    given = [values] if isinstance(values, str) else values
    if not isinstance(given, list | tuple) or not given or not all(isinstance(value, str) for value in given):
        raise DataError(
            f"the filter on {field!r:.80} needs a text or a list of texts, any of which may match; got {values!r:.80}; "
            f"leave the field out to accept every value"
        )
    return tuple(sorted(set(given)))


class FilterCache:
    """The passages that filters let through; those of the most recent filters are kept. Safe to share."""

    def __init__(self, index: FieldIndex, *, most_bytes: int = _MOST_BYTES) -> None:
        self._index = index
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Filter, tuple[Subset, int]] = OrderedDict()
        self._lock = Lock()
        self.num_bytes = 0
        """Memory of what is kept, at most."""

    @property
    def fields(self) -> tuple[str, ...]:
        """What a filter may name."""
        return tuple(self._index.counts)

    def subset(self, wanted: Filter | None) -> Subset | None:
        """The passages that ``wanted`` lets through; ``None`` if that is all of them. Raises ``DataError``."""
        if wanted is None or not wanted.conditions:
            return None
        check_fields(wanted, self.fields)
        with self._lock:
            if wanted in self._kept:
                self._kept.move_to_end(wanted)
                return self._kept[wanted][0]
        # Two threads may look for the same passages; they find the same.
        found = _find(self._index, wanted)
        self._keep(wanted, found)
        return found

    def _keep(self, wanted: Filter, found: Subset) -> None:
        size = found.num_bytes + _size(wanted)
        with self._lock:
            if wanted in self._kept or size > self._most_bytes:
                return
            self._kept[wanted] = found, size
            self.num_bytes += size
            while self.num_bytes > self._most_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self.num_bytes -= freed


def _find(index: FieldIndex, wanted: Filter) -> Subset:
    each = [Subset.of(index.positions(field, values), index.num_passages) for field, values in wanted.conditions]
    return reduce(and_, sorted(each, key=lambda subset: subset.count))


def _size(wanted: Filter) -> int:
    texts = [text for field, values in wanted.conditions for text in (field, *values)]
    return sum(map(sys.getsizeof, texts)) + 8 * len(texts) + _OVERHEAD
