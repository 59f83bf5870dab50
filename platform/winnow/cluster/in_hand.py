"""What is being worked on, noted on disk, so that work which kills its process is found out.

A note is left behind only by a process that died with it. Ray gives the same batch to another process;
that one sees the note and takes the queries one at a time, until the one that kills is known by its own notes.
"""

import hashlib
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

Key = tuple[str, str]
"""Query id and pool id. The judge is the directory."""


class InHand:
    """Notes of one run of judging. Picklable: actors write and read, the driver clears."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def deaths(self, keys: Sequence[Key], *, alone: bool = False) -> int:
        """How many processes died while they held exactly ``keys``, as a batch or as a query taken alone."""
        return sum(1 for _ in self._directory.glob(f"{_digest(keys, alone)}-*"))

    @contextmanager
    def holding(self, keys: Sequence[Key], *, alone: bool = False) -> Iterator[None]:
        """A note on ``keys`` for as long as the block runs."""
        note = self._directory / f"{_digest(keys, alone)}-{uuid.uuid4().hex[:8]}"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
        try:
            yield
        finally:
            note.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything: a new run starts without suspicion."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _digest(keys: Sequence[Key], alone: bool) -> str:
    return hashlib.sha256(repr((alone, sorted(keys))).encode()).hexdigest()[:24]
