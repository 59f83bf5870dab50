"""Filters: which passages a search may find, by the values of their fields.

Legend: P passages, S those that a filter lets through.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow.errors import DataError
from winnow.retrieval.subset import Subset

COLUMNS = ("passage_id", "document_id", "title")
"""Fields that every passage has; any other field is a key of its metadata."""

_MOST_SHOWN = 20
_KEPT = 16
"""Filters whose passages are remembered: about 10 bytes per passage of the corpus each, at most."""


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


def find_members(batches: Iterable[pa.RecordBatch], wanted: Filter) -> NDArray[np.bool_]:
    """``is_member_P``: whether ``wanted`` lets each row of the ``passages`` in ``batches`` through."""
    return np.concatenate([_find_members(batch, wanted) for batch in batches])


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


def _find_members(batch: pa.RecordBatch, wanted: Filter) -> NDArray[np.bool_]:
    is_member_P = np.ones(batch.num_rows, dtype=bool)
    for field, values in wanted.conditions:
        accepted = pa.array(values, pa.string())
        if field in COLUMNS:
            is_member_P &= _is_in(batch.column(field), accepted)
        else:
            is_member_P &= _has_metadata(batch.column("metadata"), field, accepted)
    return is_member_P


def _has_metadata(column: pa.MapArray, field: str, accepted: pa.Array) -> NDArray[np.bool_]:
    """Whether each row has ``field`` with one of the values."""
    # The entries of all rows lie in one array; row p has those from offset p to offset p + 1.
    offsets = column.offsets.to_numpy()
    keys, values = (entries.slice(offsets[0], offsets[-1] - offsets[0]) for entries in (column.keys, column.items))
    is_match = _is_in(keys, pa.array([field], pa.string())) & _is_in(values, accepted)
    is_member_P = np.zeros(len(column), dtype=bool)
    is_member_P[np.searchsorted(offsets, np.flatnonzero(is_match) + offsets[0], side="right") - 1] = True
    return is_member_P


def _is_in(texts: pa.Array, accepted: pa.Array) -> NDArray[np.bool_]:
    return pc.is_in(texts, value_set=accepted).to_numpy(zero_copy_only=False)


class FilterCache:
    """The passages that filters let through; those of the most recent filters are kept. Safe to share."""

    def __init__(self, batches: Sequence[pa.RecordBatch], metadata_fields: Iterable[str]) -> None:
        self.fields = tuple(sorted({*COLUMNS, *metadata_fields}))
        """What a filter may name."""
        # Not a method: a cache that held its own object would keep an index in memory after its last use.
        self._find = lru_cache(maxsize=_KEPT)(partial(_find_subset, batches))

    def subset(self, wanted: Filter | None) -> Subset | None:
        """The passages that ``wanted`` lets through; ``None`` if that is all of them. Raises ``DataError``."""
        if wanted is None or not wanted.conditions:
            return None
        check_fields(wanted, self.fields)
        return self._find(wanted)


def _find_subset(batches: Sequence[pa.RecordBatch], wanted: Filter) -> Subset:
    return Subset(find_members(batches, wanted))
