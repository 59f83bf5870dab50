"""Small changes of Python source that a test should notice. Knows no tests and no files.

Changed are arithmetic, comparisons, boolean logic, numbers and bounds of slices. Left alone is what cannot make a
result wrong, or is not for a test of behaviour: texts and messages, defaults, annotations, ``assert`` and ``strict=``,
how much of a text a ``_quote`` repeats, and the number of a ``..._VERSION``.
"""

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_OPERATORS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Add: ("-",),
    ast.Sub: ("+",),
    ast.Mult: ("/",),
    ast.Div: ("*",),
    ast.FloorDiv: ("*",),
    ast.Mod: ("*",),
    ast.Pow: ("*",),
    ast.MatMult: ("*",),
    ast.BitAnd: ("|",),
    ast.BitOr: ("&",),
    ast.BitXor: ("|",),
    ast.LShift: (">>",),
    ast.RShift: ("<<",),
    ast.And: ("or",),
    ast.Or: ("and",),
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
"""What is written in place of an operator, one mutant each."""

_SPELLING = {ast.Is: "is", ast.IsNot: r"is\s+not", ast.In: "in", ast.NotIn: r"not\s+in", ast.And: "and", ast.Or: "or"}
_SYMBOLS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**"}
_SYMBOLS |= {ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>"}
_SYMBOLS |= {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_SPELLING |= {operator: re.escape(symbol) for operator, symbol in _SYMBOLS.items()}

_OPPOSITES = {"min": "max", "any": "all", "argmin": "argmax", "minimum": "maximum", "isdisjoint": "issubset"}
_OPPOSITES |= {opposite: name for name, opposite in _OPPOSITES.items() if name != "isdisjoint"}


@dataclass(frozen=True)
class Mutation:
    """``source[start:end]`` replaced by ``text``, in bytes of UTF-8."""

    start: int
    end: int
    text: str

    def apply(self, source: str) -> str:
        """The changed source."""
        encoded = source.encode()
        return (encoded[: self.start] + self.text.encode() + encoded[self.end :]).decode()

    def diff(self, source: str, name: str) -> str:
        """The change as a unified diff without context."""
        before, after = source.splitlines(), self.apply(source).splitlines()
        return "\n".join(difflib.unified_diff(before, after, name, name, lineterm="", n=0))


def mutations(source: str) -> list[Mutation]:
    """Every mutation of ``source`` that compiles, in the order of the text.

    >>> [change.apply("a[1:] if b < c else -1") for change in mutations("a[1:] if b < c else -1")][:3]
    ['a[:] if b < c else -1', 'a[0:] if b < c else -1', 'a[2:] if b < c else -1']
    """
    found = sorted(
        set(_Sites(source).visit(ast.parse(source))), key=lambda change: (change.start, change.end, change.text)
    )
    original = ast.dump(ast.parse(source))
    return [change for change in found if _dump(change.apply(source)) not in (None, original)]


def _dump(source: str) -> str | None:
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return None


class _Sites:
    """Walks a module and yields the mutations of each node, skipping what is left alone."""

    def __init__(self, source: str) -> None:
        self._source = source.encode()
        lines = self._source.splitlines(keepends=True)
        self._offsets = [0, *(sum(map(len, lines[: number + 1])) for number in range(len(lines)))]

    def visit(self, node: ast.AST) -> Iterator[Mutation]:
        yield from self._here(node)
        for child in _worth_changing(node):
            yield from self.visit(child)

    def _here(self, node: ast.AST) -> Iterator[Mutation]:
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                yield from self._operator(op, left, right)
            case ast.AugAssign(target=target, op=op, value=value):
                yield from self._operator(op, target, value)
            case ast.BoolOp(op=op, values=values):
                for left, right in pairwise(values):
                    yield from self._operator(op, left, right)
            case ast.Compare(left=left, ops=ops, comparators=right):
                for op, before, after in zip(ops, [left, *right], right, strict=False):
                    yield from self._operator(op, before, after)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                yield from (self._instead(node, repr(1 - value)), self._instead(node, repr(-1 - value)))
            case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub(), operand=operand):
                yield Mutation(self._start(node), self._start(operand), "")
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                yield from self._negated(test)
            case ast.comprehension(ifs=conditions):
                for test in conditions:
                    yield from self._negated(test)
            case ast.Constant(value=bool(value)):
                yield self._instead(node, repr(not value))
            case ast.Constant(value=int() | float() as value):
                yield from (self._instead(node, repr(value + 1)), self._instead(node, repr(value - 1)))
            case ast.Slice(lower=lower, upper=upper):
                yield from (self._instead(bound, "") for bound in (lower, upper) if bound is not None)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _OPPOSITES:
                end = self._end(node.func)
                yield Mutation(end - len(name), end, _OPPOSITES[name])

    def _operator(self, op: ast.AST, left: ast.AST, right: ast.AST) -> Iterator[Mutation]:
        start, end = self._end(left), self._start(right)
        written = re.search(_SPELLING[type(op)], self._source[start:end].decode())
        assert written is not None, ast.dump(op)
        for text in _OPERATORS[type(op)]:
            yield Mutation(start + written.start(), start + written.end(), text)

    def _negated(self, test: ast.AST) -> Iterator[Mutation]:
        if not isinstance(test, ast.Compare | ast.UnaryOp):  # their operators are changed
            written = self._source[self._start(test) : self._end(test)].decode()
            yield self._instead(test, f"not ({written})")

    def _instead(self, node: ast.AST, text: str) -> Mutation:
        return Mutation(self._start(node), self._end(node), text)

    def _start(self, node: ast.AST) -> int:
        return self._offsets[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.AST) -> int:
        return self._offsets[node.end_lineno - 1] + node.end_col_offset


def _worth_changing(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.JoinedStr() | ast.Raise() | ast.Assert() | ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            return
        case ast.FunctionDef(name="_quote"):
            return
        case ast.Assign(targets=[ast.Name(id=name)]) if name.endswith("_VERSION"):
            return
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from node.body
        case ast.Lambda():
            yield node.body
        case ast.keyword(arg="strict"):
            return
        case ast.ClassDef():
            for statement in node.body:
                yield from _limits(statement) if isinstance(statement, ast.AnnAssign) else [statement]
        case ast.AnnAssign():
            yield from [node.value] if node.value is not None else []
        case _:
            yield from ast.iter_child_nodes(node)


def _limits(field: ast.AnnAssign) -> Iterator[ast.AST]:
    """The bounds of a setting, ``Field(ge=0)``; its default stays."""
    if isinstance(field.value, ast.Call):
        yield from (keyword.value for keyword in field.value.keywords if keyword.arg in ("gt", "ge", "lt", "le"))
