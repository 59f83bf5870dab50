"""The folders of a local Ray: for its logs and sockets, for its object store, for code that is compiled."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from winnow.cluster.config import SMALLEST_STORE_MB
from winnow.errors import ConfigError

_SCRATCH_BYTES = 38
"""Ray puts a node's id of 56 characters before the name of HAProxy's socket, and Linux takes 96 characters."""
_SHARED_MEMORY = "/dev/shm"


def make_scratch() -> str:
    """A new folder for Ray's logs and Unix sockets."""
    try:
        scratch = tempfile.mkdtemp(prefix="winnow-")
    except OSError as error:
        raise ConfigError(
            f"there is no folder for temporary files ({error}); set TMPDIR to one that can be written and has room"
        ) from error
    excess = len(os.fsencode(scratch)) - _SCRATCH_BYTES
    if excess > 0:
        os.rmdir(scratch)
        folder = tempfile.gettempdir()
        raise ConfigError(
            f"the folder for temporary files, {folder!r}, has a path that is {excess} bytes too long for the sockets "
            f"in it; set TMPDIR to one of at most {len(os.fsencode(folder)) - excess} bytes, such as /tmp"
        )
    return scratch


def place_object_store(size_mb: int, scratch: str) -> str | None:
    """``None`` if Ray's object store fits into shared memory, its own choice; else ``scratch``, with a note.

    Ray itself looks at shared memory only, and would run into a full disk later. Raises ``ConfigError`` where
    neither has room.
    """
    shared_mb, scratch_mb, elsewhere = _free_mb(_SHARED_MEMORY), _free_mb(scratch), os.path.dirname(scratch)
    if shared_mb >= size_mb:
        return None
    trouble = f"{_SHARED_MEMORY} has {shared_mb:,} MB free, too little for an object store of {size_mb:,} MB"
    more = f"{size_mb + 64}m"
    way_out = f"give it more (docker run --shm-size={more}, or mount -o remount,size={more} {_SHARED_MEMORY})"
    if shared_mb >= SMALLEST_STORE_MB:
        way_out += f", or set cluster.object_store_mb={shared_mb}"
    if scratch_mb < size_mb:
        raise ConfigError(f"{trouble}, and so has {elsewhere} with {scratch_mb:,} MB; {way_out}")
    print(f"note: {trouble}, so it lies in {elsewhere}, which is slower; {way_out}", file=sys.stderr)
    return scratch


def keep_compiled_code_where_it_can_run() -> None:
    """Have torch compile into the home folder if nothing may be run from the folder for temporary files (noexec).

    All else that lies there is data. A folder that is set already stays.
    """
    if os.statvfs(tempfile.gettempdir()).f_flag & os.ST_NOEXEC:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path.home() / ".cache" / "torchinductor"))


def _free_mb(folder: str) -> int:
    try:
        return shutil.disk_usage(folder).free // 2**20
    except OSError:
        return 0
