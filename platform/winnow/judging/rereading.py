"""Would stored replies be read today as they were read then?

The reading of replies has a version of its own, apart from the judge's identity: what a model said stays true when
the parser changes. A row of evidence whose replies are all read alike is kept; another one is judged again, and so is
one in windows, whose places in the pool are not stored. Likelihoods have no replies to read.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from winnow.errors import JudgmentParseError
from winnow.judging.config import JudgeConfig, ListwiseJudgeConfig
from winnow.judging.listwise import IN_SEPARATE_PROMPTS
from winnow.judging.parsing import LISTWISE_READING_VERSION, parse_answer, parse_ranking, parse_selection

T = TypeVar("T")
Row = Mapping[str, Any]
"""A row of ``EVIDENCE``, or one of its traces, judgments."""

_ANY_SIZE = 1000
"""A failed row does not say how many passages its pool has."""


class _Unlike(Exception):
    """Something is read in another way now."""


def reading_version(judge: JudgeConfig) -> int:
    """The version of the reading of replies by which rows of ``judge`` count."""
    return LISTWISE_READING_VERSION if judge.kind == "listwise" else 1


def reads_alike(row: Row, config: ListwiseJudgeConfig) -> bool:
    """Whether every reply of ``row`` is read as it was when ``row`` was stored."""
    if any(trace["window"] is not None for trace in row["traces"]):
        return False
    rounds = {name: list(traces) for name, traces in groupby(row["traces"], key=lambda trace: trace["round"])}
    try:
        if row["status"] == "ok":
            _check_judged(row, rounds, config)
        else:
            _check_failed(rounds)
    except (_Unlike, JudgmentParseError):
        return False
    return True


def _check_judged(row: Row, rounds: Mapping[str, Sequence[Row]], config: ListwiseJudgeConfig) -> None:
    size = len(row["judgments"])
    kept = [position for position, each in enumerate(row["judgments"]) if each["is_relevant"]]
    selected = _read(rounds["relevance_selection"], partial(parse_selection, pool_size=size))
    _check(sorted(selected) == kept)
    if not kept:
        return
    _check(_read(rounds["pseudo_answer"], parse_answer) == row["pseudo_answer"])
    # What the labels of the verdict count: the passages kept, or all of the pool.
    is_alone = config.layout == "separate" or IN_SEPARATE_PROMPTS in (row["detail"] or "")
    shown, among = (kept, range(len(kept))) if is_alone else (range(size), kept)
    parse, name = _VERDICTS[config.verdict]
    named = [shown[place] for place in _read(rounds[name], partial(parse, pool_size=len(shown), among=among))]
    _check(named == _ranked(row) if config.verdict == "ranking" else sorted(named) == _useful(row))


def _check_failed(rounds: Mapping[str, Sequence[Row]]) -> None:
    """A row that failed in its first round still does. What another one had read before it failed is not stored."""
    for trace in rounds.get("relevance_selection", ()):
        _check(not _can_be_read(trace, partial(parse_selection, pool_size=_ANY_SIZE)))


def _read(traces: Sequence[Row], read: Callable[[str], T]) -> T:
    """The last reply of a round; it was asked for because none before it could be read."""
    *earlier, last = traces
    _check(not any(_can_be_read(trace, read) for trace in earlier))
    return read(last["reply"])


def _can_be_read(trace: Row, read: Callable[[str], object]) -> bool:
    if trace["finish_reason"] != "stop":
        return False
    try:
        read(trace["reply"])
    except JudgmentParseError:
        return False
    return True


def _useful(row: Row) -> list[int]:
    return [position for position, each in enumerate(row["judgments"]) if each["is_useful"]]


def _ranked(row: Row) -> list[int]:
    ranks = {each["utility_rank"]: position for position, each in enumerate(row["judgments"]) if each["utility_rank"]}
    return [ranks[rank] for rank in sorted(ranks)]


def _check(alike: bool) -> None:
    if not alike:
        raise _Unlike


_VERDICTS = {
    "selection": (parse_selection, "utility_selection"),
    "ranking": (parse_ranking, "utility_ranking"),
}
