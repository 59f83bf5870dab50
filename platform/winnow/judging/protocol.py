"""What the actor pool asks of a judge."""

from collections.abc import Callable
from typing import Protocol

from winnow.records import CandidatePool, JudgedQuery


class Judge(Protocol):
    """A pool in, a judged query out. Equal pools and an equal engine give equal judgments."""

    @property
    def judge_id(self) -> str:
        """The name under which its evidence is kept."""

    async def judge(self, pool: CandidatePool) -> JudgedQuery:
        """What was found out about ``pool``. What fails becomes a status; only ``EngineDeadError`` is raised."""

    def close(self) -> None:
        """Free the engine."""


JudgeFactory = Callable[[], Judge]
"""Builds a judge with its engine, in the process that will use it. Must be picklable."""
