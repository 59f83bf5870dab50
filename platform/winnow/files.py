"""Files that are whole or absent, and hashes of what is in them."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def hash_file(path: Path) -> str:
    """SHA-256 of the bytes of ``path``, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_cache(name: str) -> Path:
    """Where this user's processes find again what they made once: for nobody else, unlike a shared ``/tmp``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "winnow" / name


def hash_tree(directory: Path, *, leave_out: Iterable[str] = ()) -> dict[str, str]:
    """SHA-256 of every file under ``directory``, by relative path; hidden files and ``leave_out`` excepted."""
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    skipped = set(leave_out)
    return {
        name: hash_file(directory / name)
        for name in names
        if name.split("/")[0] not in skipped and not any(part.startswith(".") for part in name.split("/"))
    }


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> Path:
    """``value`` as indented JSON in ``path``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    return path


def read_json(path: Path) -> Any:
    """The JSON value in ``path``."""
    return json.loads(path.read_text(encoding="utf-8"))
