"""Engines that do not start: other processes try again, a few times; then the job ends, and says why once.

A start may fail for a reason that passes, such as the memory of an engine that has just died. Failed starts are noted
on disk, with what they failed of: the next one is made by another process, maybe on another machine.
"""

import shutil
import uuid
from pathlib import Path

from winnow.engines.protocol import EngineDeadError
from winnow.errors import ConfigError, WinnowError
from winnow.judging.protocol import Judge, JudgeFactory

MOST_FAILED = 3
"""Starts that may fail one after another before the job ends."""
_UNKNOWN = "its process died while it was loaded, of too little memory most often"


class EngineStartError(ConfigError):
    """The engine could not be started, by no process that tried."""


class Starts:
    """Notes of one run of judging about its engines' starts. Picklable."""

    def __init__(self, directory: Path, *, at_a_time: int) -> None:
        """``at_a_time`` engines may be starting at any moment."""
        self._directory = directory.absolute()
        self._at_a_time = at_a_time

    @property
    def most(self) -> int:
        """Starts that fail, or are under way, before no more are tried."""
        return MOST_FAILED + self._at_a_time - 1

    def judge(self, build_judge: JudgeFactory) -> Judge:
        """What ``build_judge`` builds.

        What it raises for a user goes through: it would be the same again. Anything else, an exit of the library too,
        becomes a ``RuntimeError``, after which another process should try; after ``MOST_FAILED`` of those, or where
        processes died without a word, an ``EngineStartError``.
        """
        if len(self._notes()) >= self.most:
            raise EngineStartError(self._explain())
        note = self._directory / f"start-{uuid.uuid4().hex[:8]}"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
        try:
            judge = build_judge()
        except WinnowError as error:
            if not isinstance(error, EngineDeadError):
                note.unlink(missing_ok=True)
                raise
            self._fail(note, str(error))
        except BaseException as error:
            self._fail(note, f"{type(error).__name__}: {error}")
        self.clear()  # one that started shows that the others can
        return judge

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _fail(self, note: Path, reason: str) -> None:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(" ".join(reason.split())[:2000], encoding="utf-8")
        if sum(map(bool, self._notes())) >= MOST_FAILED:
            raise EngineStartError(self._explain()) from None
        raise RuntimeError(f"the engine could not be started: {reason}") from None

    def _notes(self) -> list[str]:
        """What every start that failed, or is under way, has left, in order; empty where nothing is known."""
        files = sorted(self._directory.glob("start-*"), key=lambda file: file.stat().st_mtime_ns)
        return [file.read_text(encoding="utf-8") for file in files]

    def _explain(self) -> str:
        notes = self._notes()
        reasons = list(filter(None, notes))
        return f"the engine could not be started, {len(notes)} times: {reasons[-1] if reasons else _UNKNOWN}"
