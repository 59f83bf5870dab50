"""Passages out of the public docstrings of Python's standard library.

Sources are found by path and read with ``ast``; nothing is imported, so a module that
cannot run here, or that does something when imported, is read all the same.
"""

import ast
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from winnow.corpora.opening import opened
from winnow.errors import DataError
from winnow.records import Passage

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = ast.Module | ast.ClassDef | _Function
_BRANCHES = ast.If | ast.Try | ast.ExceptHandler | ast.With

# Where a docstring may be cut, best first: after a paragraph, a sentence, a line, a word.
# All are zero-width, so the pieces joined give the text back.
_CUTS = tuple(map(re.compile, (r"(?<=\n\n)", r"(?<=[.!?])(?=\s+[A-Z])", r"(?<=\n)", r"(?<=\s)(?=\S)")))


@dataclass(frozen=True, slots=True)
class DocstringCorpus:
    """What was read, and what was left out.

    ``dropped`` counts docstrings under ``short_docstring`` and ``repeated_name``, passages under
    ``short_piece``, ``duplicate_text`` and ``over_limit``.
    """

    passages: tuple[Passage, ...]
    dropped: Counter[str]
    missing_modules: tuple[str, ...]
    unreadable_modules: tuple[str, ...]


def read_docstrings(
    modules_file: Path,
    *,
    max_words: int = 120,
    min_words: int = 8,
    limit: int = 3000,
    stdlib: Path | None = None,
) -> DocstringCorpus:
    """Passages of the listed modules, in the order of the list and then of the source.

    ``modules_file`` holds one dotted module per line and ``#`` comments. ``stdlib`` is the folder
    the modules are looked up in: by default, that of the running Python. A module that is not
    there, or that this Python cannot parse, is named in the result.
    """
    reader = _Reader(max_words=max_words, min_words=min_words, limit=limit)
    folder = stdlib or Path(sysconfig.get_paths()["stdlib"])
    for module in _read_module_names(modules_file):
        reader.read_module(module, folder)
    return reader.corpus()


class _Reader:
    """Collects passages; remembers the names and the texts it has seen."""

    def __init__(self, *, max_words: int, min_words: int, limit: int) -> None:
        self._max_words, self._min_words, self._limit = max_words, min_words, limit
        self._names: set[str] = set()
        self._passages: dict[str, Passage] = {}  # by text
        self._dropped: Counter[str] = Counter()
        self._missing: list[str] = []
        self._unreadable: list[str] = []

    def corpus(self) -> DocstringCorpus:
        return DocstringCorpus(
            passages=tuple(self._passages.values()),
            dropped=self._dropped,
            missing_modules=tuple(self._missing),
            unreadable_modules=tuple(self._unreadable),
        )

    def read_module(self, module: str, folder: Path) -> None:
        source = _find_source(module, folder)
        if source is None:
            self._missing.append(module)
            return
        try:
            tree = ast.parse(source.read_bytes(), filename=str(source))
        except (SyntaxError, ValueError):  # ValueError: null bytes
            self._unreadable.append(module)
            return
        self._add_docstring(module, tree)
        for name, definition in _public_definitions(tree, module):
            self._add_docstring(name, definition)

    def _add_docstring(self, name: str, definition: _Definition) -> None:
        docstring = ast.get_docstring(definition)
        if docstring is None:
            return
        if _count_words(docstring) < self._min_words:
            self._dropped["short_docstring"] += 1
        elif name in self._names:
            self._dropped["repeated_name"] += 1
        else:
            self._names.add(name)
            self._add_pieces(name, _title(name, definition), docstring)

    def _add_pieces(self, name: str, title: str, docstring: str) -> None:
        for number, text in enumerate(_split(docstring, self._max_words)):
            if _count_words(text) < self._min_words:
                self._dropped["short_piece"] += 1
            elif text in self._passages:
                self._dropped["duplicate_text"] += 1
            elif len(self._passages) >= self._limit:
                self._dropped["over_limit"] += 1
            else:
                self._passages[text] = Passage(f"{name}-{number}", text, title=title, document_id=name)


def _read_module_names(modules_file: Path) -> list[str]:
    """Module names in the order of the file.

    Raises ``DataError`` when there is no such file, or a line is not a dotted name.
    """
    with opened(modules_file) as file:
        text = file.read()
    try:
        lines = [line.partition("#")[0].strip() for line in text.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{modules_file}: byte {error.start} is not UTF-8; convert the file") from None
    for number, line in enumerate(lines, start=1):
        if line and not all(part.isidentifier() for part in line.split(".")):
            raise DataError(
                f"{modules_file}:{number}: expected one dotted module name, found {line[:60]!r}; "
                f"put each module on its own line and comments after #"
            )
    return [line for line in lines if line]


def _find_source(module: str, folder: Path) -> Path | None:
    """The package's ``__init__.py`` or the module's file, in the order in which Python would look."""
    base = folder.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def _public_definitions(parent: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition]]:
    """Qualified name and node of the public classes, functions and methods, in source order.

    Follows classes and branches (``if``, ``try``, ``with``), but not functions.
    """
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef | _Function):
            if _is_public(node.name):
                name = f"{prefix}.{node.name}"
                yield name, node
                if isinstance(node, ast.ClassDef):
                    yield from _public_definitions(node, name)
        elif isinstance(node, _BRANCHES):
            yield from _public_definitions(node, prefix)


def _is_public(name: str) -> bool:
    # Some modules carry their own tests as `test` or `test_...`; `doctest.testmod` is no such thing.
    return not name.startswith(("_", "test_")) and name != "test"


def _title(name: str, definition: _Definition) -> str:
    match definition:
        case ast.Module():
            return f"module {name}"
        case ast.ClassDef():
            return f"class {name}"
        case _ if _is_property(definition):
            return name
        case _:
            return f"{name}({', '.join(_argument_names(definition.args))})"


def _is_property(function: _Function) -> bool:
    return any(ast.unparse(decorator).endswith("property") for decorator in function.decorator_list)


def _argument_names(arguments: ast.arguments) -> list[str]:
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if arguments.vararg:
        names.append(f"*{arguments.vararg.arg}")
    names += [argument.arg for argument in arguments.kwonlyargs]
    if arguments.kwarg:
        names.append(f"**{arguments.kwarg.arg}")
    return [name for name in names if name not in ("self", "cls")]


def _split(docstring: str, max_words: int) -> list[str]:
    """Texts of at most ``max_words`` words, each as full as its next cut allows.

    >>> _split("One two three.\\n\\nFour five. Six\\nseven.", max_words=5)
    ['One two three.', 'Four five. Six\\nseven.']
    """
    text = re.sub(r"[ \t]+$", "", docstring, flags=re.MULTILINE)
    texts = [""]
    for piece in _cut(re.sub(r"\n{3,}", "\n\n", text), max_words, _CUTS):
        if _count_words(texts[-1]) + _count_words(piece) > max_words:
            texts.append("")
        texts[-1] += piece
    return [dedent(text).strip() for text in texts]


def _cut(text: str, max_words: int, cuts: tuple[re.Pattern[str], ...]) -> list[str]:
    """Pieces of at most ``max_words`` words; a piece that is short enough is not cut further."""
    if _count_words(text) <= max_words or not cuts:
        return [text]
    return [piece for part in cuts[0].split(text) for piece in _cut(part, max_words, cuts[1:])]


def _count_words(text: str) -> int:
    return len(text.split())
