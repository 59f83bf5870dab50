"""What the actor pool asks of a judge."""

from collections.abc import Callable, Sequence
from typing import Protocol

from winnow.records import CandidatePool, JudgedQuery


class Judge(Protocol):
    """Pools in, judged queries out. Equal pools and an equal engine give equal judgments."""

    def judge(self, pools: Sequence[CandidatePool]) -> list[JudgedQuery]:
        """One result per pool, in order. What fails becomes a status; nothing is raised for a row."""


JudgeFactory = Callable[[], Judge]
"""Builds a judge with its engine, in the process that will use it. Must be picklable."""
