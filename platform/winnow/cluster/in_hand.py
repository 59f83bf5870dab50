"""What is being worked on, noted on disk, so that work which kills its process is found out.

A note is left behind only by a process that died with it. Ray gives the same batch to another process;
that one sees the note and takes the queries one at a time, until the one that kills is known by its own notes.

Every run of a judge has a directory of its own, which it holds by a lock while its driver lives. What a killed run
left is taken over by the next one; the notes of a run at work are nobody else's business.
"""

import hashlib
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from filelock import FileLock, Timeout

from winnow.errors import WinnowError
from winnow.files import read_json, write_json

Key = tuple[str, str]
"""Query id and pool id. The judge is the directory."""

_RUNS = ".in_hand"
_EARLIER = "earlier"


class InHand:
    """Notes of one run of judging. Picklable: actors write and read, ``in_hand`` makes and clears."""

    def __init__(self, directory: Path, earlier: Mapping[str, int] = MappingProxyType({})) -> None:
        """``earlier`` holds the deaths of killed runs, by the digest of a single key."""
        self._directory = directory.absolute()
        self._earlier = dict(earlier)

    def deaths(self, keys: Sequence[Key], *, alone: bool = False) -> int:
        """How many processes died while they held exactly ``keys``, as a batch or as a query taken alone.

        Killed runs cut their batches elsewhere, so from those any batch counts that held one of ``keys``.
        """
        now = sum(1 for _ in self._directory.glob(f"{_digest(keys, alone)}-*"))
        return now + max((self._earlier.get(_digest([key], alone), 0) for key in keys), default=0)

    @contextmanager
    def holding(self, keys: Sequence[Key], *, alone: bool = False) -> Iterator[None]:
        """A note on ``keys`` for as long as the block runs."""
        note = self._directory / f"{_digest(keys, alone)}-{uuid.uuid4().hex[:8]}"
        write_json(note, {"keys": list(keys), "alone": alone})
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


@contextmanager
def in_hand(judge: Path) -> Iterator[InHand]:
    """The notes of a run whose evidence goes to the directory ``judge``, for the length of the run.

    A run that ends by itself forgets them; after a kill they are what the next run has to know.
    """
    own = (judge / _RUNS / uuid.uuid4().hex[:12]).absolute()
    own.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_lock(own)):
        own.mkdir()
        for run in _others(own):
            _take_over(run, own)
        try:
            yield InHand(own, _deaths_in(own / _EARLIER))
        except WinnowError:
            _forget(own)
            raise
        _forget(own)


def is_at_work(judge: Path) -> bool:
    """Whether the driver of any run of ``judge`` is alive."""
    return any(_is_held(_lock(run)) for run in _others((judge / _RUNS / "none").absolute()))


def _others(own: Path) -> list[Path]:
    return [path for path in sorted(own.parent.glob("*")) if path.is_dir() and path != own]


def _lock(run: Path) -> Path:
    return run.with_name(f".{run.name}.lock")


def _is_held(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def _take_over(run: Path, own: Path) -> None:
    """Move the notes of ``run`` to ``own``, unless its driver is alive."""
    with suppress(Timeout), FileLock(_lock(run), timeout=0):
        (own / _EARLIER).mkdir(exist_ok=True)
        for note in [*run.glob("[!.]*-*"), *run.glob(f"{_EARLIER}/[!.]*-*")]:
            with suppress(FileNotFoundError):
                note.rename(own / _EARLIER / note.name)
        _forget(run)


def _forget(run: Path) -> None:
    shutil.rmtree(run, ignore_errors=True)
    _lock(run).unlink(missing_ok=True)


def _deaths_in(directory: Path) -> Counter[str]:
    """Deaths by the digest of each key that a note in ``directory`` names."""
    deaths: Counter[str] = Counter()
    for path in directory.glob("*"):
        note = read_json(path)
        deaths.update(_digest([(query_id, pool_id)], note["alone"]) for query_id, pool_id in note["keys"])
    return deaths


def _digest(keys: Sequence[Key], alone: bool) -> str:
    return hashlib.sha256(repr((alone, sorted(keys))).encode()).hexdigest()[:24]
