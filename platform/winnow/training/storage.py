"""Folders that are whole or absent, on a local path or on any filesystem that fsspec knows.

A folder counts while its marker is there, which is written last and removed first. So whatever instant a
writer is killed at, the folders that were whole before still are, and what it left behind is none.
One process writes; any number may read.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Protocol

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from winnow.errors import ConfigError

MARKER = "complete"
_BUILDING = ".building-"


class FolderStore(Protocol):
    """Whole folders at one place. Other things that lie there are left alone."""

    where: str
    """The place, as messages name it."""
    scratch: Path
    """Where bytes are written first, which is what runs full."""

    def names(self) -> list[str]:
        """The whole folders."""

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        """Add the folder ``name``, with the files that ``fill`` writes. There must be none of that name."""

    def read(self, name: str) -> AbstractContextManager[Path]:
        """The files of a whole folder, on this machine, for the length of the block."""

    def remove(self, name: str) -> None:
        """Make the folder ``name`` absent."""

    def remove_leftovers(self) -> None:
        """Remove what killed writers left behind."""

    def remove_all(self) -> None:
        """Remove every folder and leftover, and the place itself if nothing else lies there."""


def open_folders(location: str, pattern: re.Pattern[str]) -> FolderStore:
    """The folders at ``location`` (a path or an fsspec URL) whose names match ``pattern``. Raises ``ConfigError``."""
    if "://" not in location:
        return LocalFolders(Path(location).absolute(), pattern)
    try:
        filesystem, root = url_to_fs(location)
    except (ImportError, ValueError) as error:
        # Only the scheme is named: what follows it may hold a password.
        scheme = location.partition("://")[0]
        raise ConfigError(
            f"storage on {scheme + '://'!r} cannot be used ({type(error).__name__}); "
            f"give a path, or a URL whose fsspec driver is installed on every worker (s3:// needs s3fs)"
        ) from None
    if isinstance(filesystem, LocalFileSystem):
        return LocalFolders(Path(root), pattern)
    return RemoteFolders(filesystem, root.rstrip("/"), pattern)


class LocalFolders:
    """Written in a hidden folder beside the others and renamed, so nothing is copied."""

    def __init__(self, root: Path, pattern: re.Pattern[str]) -> None:
        self.where = str(root)
        self._root = root
        self._pattern = pattern

    @property
    def scratch(self) -> Path:
        return next(path for path in (self._root, *self._root.parents) if path.exists())

    def names(self) -> list[str]:
        return [name for name in self._matching() if (self._root / name / MARKER).exists()]

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        building = self._root / f"{_BUILDING}{name}"
        building.mkdir(parents=True)
        try:
            fill(building)
            (building / MARKER).touch()
            os.rename(building, self._root / name)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    @contextmanager
    def read(self, name: str) -> Iterator[Path]:
        yield self._root / name

    def remove(self, name: str) -> None:
        (self._root / name / MARKER).unlink(missing_ok=True)
        # Without its marker it counts no more; a network disk that keeps a file open may need a second try.
        shutil.rmtree(self._root / name, ignore_errors=True)

    def remove_leftovers(self) -> None:
        for path in self._root.glob(f"{_BUILDING}*"):
            shutil.rmtree(path, ignore_errors=True)
        for name in set(self._matching()) - set(self.names()):
            self.remove(name)

    def remove_all(self) -> None:
        for name in self._matching():
            self.remove(name)
        self.remove_leftovers()
        with suppress(OSError):
            self._root.rmdir()

    def _matching(self) -> list[str]:
        return [path.name for path in self._root.glob("*") if self._pattern.fullmatch(path.name)]


class RemoteFolders:
    """Written on this machine and uploaded. An object store cannot rename a folder, hence the marker."""

    def __init__(self, filesystem: AbstractFileSystem, root: str, pattern: re.Pattern[str]) -> None:
        self.where = filesystem.unstrip_protocol(root)
        self.scratch = Path(tempfile.gettempdir())
        self._filesystem = filesystem
        self._root = root
        self._pattern = pattern

    def names(self) -> list[str]:
        return [name for name in self._matching() if self._filesystem.exists(f"{self._root}/{name}/{MARKER}")]

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="winnow-") as scratch:
            fill(Path(scratch))
            try:
                self._upload(Path(scratch), f"{self._root}/{name}")
            except Exception as error:
                # Drivers raise types of their own; whoever saves has to be able to tell that it failed.
                raise OSError(f"{type(error).__name__}: {error}") from error

    def _upload(self, source: Path, target: str) -> None:
        self._filesystem.makedirs(target, exist_ok=True)
        for path in sorted(source.iterdir()):
            self._filesystem.put_file(str(path), f"{target}/{path.name}")
        self._filesystem.pipe_file(f"{target}/{MARKER}", b"complete\n")

    @contextmanager
    def read(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="winnow-") as scratch:
            for path in self._filesystem.ls(f"{self._root}/{name}", detail=False):
                self._filesystem.get_file(path, str(Path(scratch) / PurePosixPath(path).name))
            yield Path(scratch)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(f"{self._root}/{name}/{MARKER}")
        with suppress(FileNotFoundError):
            self._filesystem.rm(f"{self._root}/{name}", recursive=True)

    def remove_leftovers(self) -> None:
        for name in set(self._matching()) - set(self.names()):
            self.remove(name)

    def remove_all(self) -> None:
        for name in self._matching():
            self.remove(name)
        with suppress(OSError):
            self._filesystem.rmdir(self._root)

    def _matching(self) -> list[str]:
        # Some drivers remember listings, and another machine may have written since.
        self._filesystem.invalidate_cache()
        try:
            paths = self._filesystem.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return [name for name in (PurePosixPath(path).name for path in paths) if self._pattern.fullmatch(name)]
