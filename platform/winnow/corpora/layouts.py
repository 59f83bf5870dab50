"""Which columns a kind of file has: the names they go by, and their order where no header names them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from winnow.errors import DataError

_SKIPPED = ""


@dataclass(frozen=True)
class Layout:
    """The columns of one kind of file, by the name that the code uses for them."""

    what: str
    """What a row is, for errors."""
    names: Mapping[str, tuple[str, ...]]
    """Under which names a column is looked for, best first; case, ``-`` and ``_`` do not matter."""
    required: tuple[str, ...]
    """Columns that a header must name; the first of them tells a header from a row."""
    by_count: Mapping[int, tuple[str, ...]]
    """The columns in order, by how many there are, where there is no header."""
    spaces: bool = False
    """Whether columns without a tab between them may be parted by spaces."""

    def positions(self, columns: Sequence[Any]) -> dict[str, int]:
        """Where each column stands that ``columns`` names."""
        plain = [_plain(str(column)) for column in columns]
        found = {column: next((name for name in names if name in plain), None) for column, names in self._plain_names}
        return {column: plain.index(name) for column, name in found.items() if name is not None}

    def header(self, cells: Sequence[str], *, path: object) -> dict[str, int] | None:
        """``positions`` if the first row of a file is a header, else ``None``. Raises ``DataError`` for half a one."""
        positions = self.positions(cells)
        found = [column for column in self.required if column in positions]
        if len(found) < 2 and self.required[0] not in found:
            return None
        self.check(positions, cells, path=path)
        return positions

    def check(self, positions: Mapping[str, int], columns: Sequence[Any], *, path: object) -> None:
        """Returns if all required columns are there, once. Raises ``DataError`` that names those that are not."""
        plain = [_plain(str(column)) for column in columns]
        if twice := [columns[place] for place in positions.values() if plain.count(plain[place]) > 1]:
            raise DataError(
                f"{path}: a {self.what} needs one column {' and one '.join(twice)}; the file has {list(columns)}: "
                f"rename or remove the others"
            )
        missing = [" or ".join(self.names[column]) for column in self.required if column not in positions]
        if missing:
            raise DataError(
                f"{path}: a {self.what} needs a column {' and one '.join(missing)}; the file has {list(columns)}: "
                f"rename a column"
            )

    def counted(self, num_columns: int, *, path: object) -> dict[str, int]:
        """The columns of a file without a header. Raises ``DataError`` if so many columns say nothing."""
        if num_columns not in self.by_count:
            orders = "; ".join(" ".join(name or "(anything)" for name in order) for order in self.by_count.values())
            raise DataError(
                f"{path} has {num_columns} columns and no header that names them; a {self.what} is one of: {orders}; "
                f"or give the file a header with {', '.join(self.required)}"
            )
        return {name: place for place, name in enumerate(self.by_count[num_columns]) if name != _SKIPPED}

    def known(self, columns: Iterable[str]) -> list[str]:
        """Those of ``columns`` that ``named`` looks at."""
        names = {name for _, names in self._plain_names for name in names}
        return [column for column in columns if _plain(column) in names]

    def named(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of ``row`` by the names that the code uses; those that are null are absent."""
        fields = {}
        plain = {_plain(name): value for name, value in reversed(row.items()) if value is not None}
        for column, names in self._plain_names:
            known = next((name for name in names if name in plain), None)
            if known is not None:
                fields[column] = plain[known]
        return fields

    @cached_property
    def _plain_names(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(column, tuple(map(_plain, names))) for column, names in self.names.items()]


@lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    return name.strip(' \t\r\n"').casefold().replace("-", "_")


_IDS = ("docid", "doc_id", "docno", "pid")
PASSAGES = Layout(
    "passage",
    {
        "_id": ("_id", "id", "passage_id", *_IDS),
        "text": ("text", "contents", "passage"),
        "title": ("title",),
        "document_id": ("document_id",),
        "metadata": ("metadata",),
    },
    required=("_id", "text"),
    by_count={2: ("_id", "text")},
)
QUERIES = Layout(
    "query",
    {
        "_id": ("_id", "id", "query_id", "qid"),
        "text": ("text", "query", "question", "contents"),
        "answers": ("answers",),
    },
    required=("_id", "text"),
    by_count={2: ("_id", "text")},
)
QRELS = Layout(
    "label",
    {
        "query-id": ("query-id", "qid"),
        "corpus-id": ("corpus-id", "passage-id", *_IDS),
        "score": ("score", "relevance", "label", "rel", "grade"),
    },
    required=("query-id", "corpus-id", "score"),
    by_count={3: ("query-id", "corpus-id", "score"), 4: ("query-id", _SKIPPED, "corpus-id", "score")},
    spaces=True,
)
