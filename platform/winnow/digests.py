"""SHA-256 of files: every byte is read once on a machine, until something says that it may have changed.

What a large file hashed to is noted in ``~/.cache/winnow/digests``, where only its user writes, so that no model and
no retriever version can bring notes of its own. A note holds for the same device, inode, size and times of change:
whoever changes bytes may set ``mtime`` back, but not ``ctime``. What it cannot see is a disk that changes bytes by
itself, or a network file system that makes these numbers up; ``verify="always"`` reads everything.
"""

import fcntl
import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from winnow.config import fingerprint
from winnow.files import user_cache

Verify = Literal["changed", "always"]

_NOTED_BYTES = 2**20
"""There are no notes on smaller files, which are read quickly."""
_SETTLED_NS = 2 * 10**9
"""A file that was changed later than this ago may be changed again without its times showing it."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_NOTE = 500


class _State(NamedTuple):
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


_known: dict[_State, str] = {}
"""What this process knows of files without notes."""


def file_digest(path: Path, *, verify: Verify = "changed") -> str:
    """SHA-256 of the bytes of ``path``, in hexadecimal. While one process reads them, others wait for its note."""
    with path.open("rb") as file:
        before = _state(os.fstat(file.fileno()))
        with _note(before) as note:
            known = _look_up(before, note)
            if known is not None and verify == "changed":
                return known
            began = time.time_ns()
            digest = _hash(file)
            # What changes the bytes from here on changes the times, too, and the note holds no more.
            if began - max(before.mtime_ns, before.ctime_ns) > _SETTLED_NS:
                _write_down(before, digest, note)
            return digest


def link_file(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, and keep what is known of it: a link changes its ``ctime``."""
    before = _state(source.stat())
    with _note(before) as note:
        known = _look_up(before, note)
        os.link(source, target)
        after = _state(target.stat())
        if known is not None and after._replace(ctime_ns=before.ctime_ns) == before:
            _write_down(after, known, note)


def _state(found: os.stat_result) -> _State:
    return _State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _hash(file: BinaryIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _look_up(state: _State, note: RawIOBase | None) -> str | None:
    if note is None:
        return _known.get(state)
    *found, digest = note.read(_LONGEST_NOTE).decode("ascii", "replace").split() or [""]
    return digest if found == [str(value) for value in state] and _DIGEST.fullmatch(digest) else None


def _write_down(state: _State, digest: str, note: RawIOBase | None) -> None:
    if note is None:
        _known[state] = digest
        return
    with suppress(OSError):
        note.seek(0)
        note.truncate()
        note.write(" ".join([*map(str, state), digest]).encode())


@contextmanager
def _note(state: _State) -> Iterator[RawIOBase | None]:
    """The note on a file, for nobody else meanwhile; ``None`` on a small one, and where none can be kept."""
    if state.size < _NOTED_BYTES:
        yield None
        return
    try:
        note = _open_note(state)
    except (OSError, RuntimeError):
        yield None
        return
    with note:
        # Without locks, as on some network file systems, a file may be read twice.
        with suppress(OSError):
            fcntl.flock(note, fcntl.LOCK_EX)
        yield note


def _open_note(state: _State) -> RawIOBase:
    folder = user_cache("digests")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"others may write in {folder}, so what it says is not believed")
    # Another machine that shares this folder may have another file at the same place.
    name = fingerprint(socket.gethostname(), state.device, state.inode)
    # Without a buffer, as a full disk would else be an error when the note is closed.
    return os.fdopen(os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
