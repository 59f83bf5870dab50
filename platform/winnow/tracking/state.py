"""How far each journal has been carried to MLflow, on disk beside the runs.

One JSON file per MLflow run under ``<output>/tracking/``: open ones in ``pending/``, those with nothing
left to carry in ``replayed/``. An open file whose lock nobody holds belonged to a process that ended.
"""

import hashlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from winnow.files import read_json, write_json

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
_HEAD_BYTES = 4096
_BUILDING = ".building-"


@dataclass
class RunState:
    """One MLflow run and the journal that fills it."""

    key: str
    name: str
    experiment: str
    uri: str
    """The tracking store it goes to, without credentials."""
    journal: str
    parent: str | None = None
    """``key`` of the parent run's state."""
    status: RunStatus = "RUNNING"
    shown: RunStatus | None = None
    """The status that MLflow shows; ``None`` before the run exists there."""
    run_id: str | None = None
    offset: int = 0
    """Bytes of the journal that have been carried over."""
    head: str | None = None
    """Hash of the journal's first line, to notice when another journal took its place."""
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tag of the MLflow run, by which it is found again if its id was not written down in time."""
    started: float = field(default_factory=time.time)
    ended: float | None = None
    refused: int = 0
    """Journal lines that MLflow did not accept."""

    @property
    def journal_path(self) -> Path:
        """Where the journal is now: a step's directory loses its ``.building-`` when it is published."""
        path = Path(self.journal)
        return path if path.exists() else path.parent.with_name(fingerprint_of(path)) / path.name

    def follows(self, journal: Path) -> bool:
        """Whether ``journal`` is the one that was followed before, perhaps grown since."""
        return self.head is None or self.head == head_of(journal)


def fingerprint_of(journal: Path) -> str:
    """The step fingerprint that a journal's directory is named after, finished or not."""
    return journal.parent.name.removeprefix(_BUILDING)


def head_of(journal: Path) -> str | None:
    """Hash of the first line of ``journal``; ``None`` while there is none."""
    if not journal.exists():
        return None
    with journal.open("rb") as file:
        line = file.readline(_HEAD_BYTES)
    return hashlib.sha256(line).hexdigest()[:16] if line else None


class StateStore:
    """The state files of one output root."""

    def __init__(self, output: Path) -> None:
        self.root = output / "tracking"
        self._pending = self.root / "pending"
        self._replayed = self.root / "replayed"

    def save(self, state: RunState) -> None:
        """Write ``state`` as an open one, whole or not at all."""
        write_json(self._pending / f"{state.key}.json", asdict(state))
        (self._replayed / f"{state.key}.json").unlink(missing_ok=True)

    def close(self, state: RunState) -> None:
        """Set ``state`` aside: everything was carried over and its run has ended."""
        write_json(self._replayed / f"{state.key}.json", asdict(state))
        (self._pending / f"{state.key}.json").unlink(missing_ok=True)

    def find(self, key: str) -> RunState | None:
        """The state under ``key``, open or closed."""
        return self.find_open(key) or _load(self._replayed / f"{key}.json")

    def find_open(self, key: str) -> RunState | None:
        """The state under ``key`` if there is something left to carry over."""
        return _load(self._pending / f"{key}.json")

    def pending(self) -> list[RunState]:
        """The open states, oldest first, parents before their children."""
        states = [state for path in self._pending.glob("*.json") if (state := _load(path)) is not None]
        return sorted(states, key=lambda state: (state.started, state.parent is not None))

    def latest(self, prefix: str) -> RunState | None:
        """The newest state, open or closed, of a run without parent whose key begins with ``prefix``."""
        paths = [*self._pending.glob(f"{prefix}*.json"), *self._replayed.glob(f"{prefix}*.json")]
        states = [state for path in paths if (state := _load(path)) is not None and state.parent is None]
        return max(states, key=lambda state: state.started, default=None)

    @contextmanager
    def owned(self, key: str) -> Iterator[bool]:
        """Whether this process may write to ``key`` during the block; the system frees it when a process dies."""
        path = self.root / "locks" / f"{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def _load(path: Path) -> RunState | None:
    try:
        return RunState(**read_json(path))
    except FileNotFoundError:
        return None
