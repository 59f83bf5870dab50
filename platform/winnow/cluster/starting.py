"""Engines that do not start: other processes try again, a few times; then the job ends, and says why once.

A start may fail once for a reason that passes, such as the memory of an engine that has just died. What it failed of is
noted on disk, because Ray tells the driver only that an actor died; so is a start whose process died in the middle.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import ray.exceptions

from winnow.errors import ConfigError
from winnow.judging.protocol import Judge, JudgeFactory

MOST_FAILED = 3
"""Starts that may fail one after another before the job ends."""


class EngineStartError(ConfigError):
    """No process could start the engine."""


class Starts:
    """Notes of one run of judging about its engines' starts. Picklable: actors write, the driver reads."""

    def __init__(self, directory: Path, *, at_a_time: int) -> None:
        """``at_a_time`` engines may be starting at any moment."""
        self._directory = directory.absolute()
        self._most_begun = MOST_FAILED + at_a_time - 1

    def judge(self, build_judge: JudgeFactory) -> Judge:
        """What ``build_judge`` builds. Raises ``EngineStartError`` whatever it fails of, an exit of the process too."""
        begun = sum(1 for _ in self._directory.glob("begun-*"))
        if begun >= self._most_begun:
            self._fail(f"its process died {begun} times while it was loaded, of too little memory most often")
        note = self._directory / f"begun-{uuid.uuid4().hex[:8]}"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
        try:
            judge = build_judge()
        except BaseException as error:
            note.unlink(missing_ok=True)
            self._fail(str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}")
        self.clear()  # one that started shows that the others can
        return judge

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Within, what Ray raises because no engine started becomes an ``EngineStartError`` with the reason."""
        try:
            yield
        except ray.exceptions.RayError:
            reason = self._reason()
            if reason is None:
                raise
            raise EngineStartError(f"the engine could not be started: {reason}") from None

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _fail(self, reason: str) -> NoReturn:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "reason").write_text(" ".join(reason.split())[:2000], encoding="utf-8")
        raise EngineStartError(reason) from None

    def _reason(self) -> str | None:
        file = self._directory / "reason"
        return file.read_text(encoding="utf-8") if file.exists() else None
