"""Retriever versions kept by content in a cache that endpoints share: what lies there is never rebuilt, only deleted.

::

    versions/<id>/            a version; whoever asks for it touches the folder
    versions/.<name>.lock     held by who puts ``name`` there or deletes it, in folders ``.<name>.<random>``
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from winnow.digests import link_file
from winnow.errors import IndexMismatchError
from winnow.retrieval.manifest import MANIFEST, read_manifest
from winnow.retrieval.version_files import check_files

VERSIONS = "versions"


def kept_path(version: str, cache: Path) -> Path:
    """Where the version of this id is kept, if it is."""
    return cache / VERSIONS / version


def keep_version(directory: Path, cache: Path) -> Path:
    """The version in ``directory`` under its id in ``cache``, hard-linked, or copied from another file system.

    Raises ``IndexMismatchError`` for a version that is damaged or was rebuilt meanwhile.
    """
    manifest = read_manifest(directory)
    kept = kept_path(manifest.version, cache)
    with locked(kept):
        if directory.resolve() == kept.resolve():
            check_files(kept, manifest)
        elif not _is_whole(kept):
            with _arriving(kept) as arriving:
                _link(directory, arriving, [*manifest.files, MANIFEST])
                # Checked here and not before: what was linked cannot be exchanged any more.
                _publish(arriving, kept)
        os.utime(kept)
    return kept


@contextmanager
def receiving(name: str, cache: Path) -> Iterator[Path]:
    """An empty folder for a version that is to be fetched, of which nothing is left afterwards; see ``take_in``."""
    with _arriving(kept_path(name, cache)) as arriving:
        arriving.mkdir()
        yield arriving


def take_in(directory: Path, cache: Path) -> Path:
    """The version in ``directory``, which is moved to where versions are kept. Raises ``IndexMismatchError``."""
    kept = kept_path(read_manifest(directory).version, cache)
    with locked(kept):
        if not _is_whole(kept):
            _publish(directory, kept)
        os.utime(kept)
    return kept


@contextmanager
def locked(kept: Path, *, timeout_s: float = -1) -> Iterator[None]:
    """For who puts or deletes what is kept there. Raises ``filelock.Timeout`` if somebody else does so for too long."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_name(f".{kept.name}.lock"), timeout=timeout_s):
        yield


def hidden_path(kept: Path) -> Path:
    """A new path beside ``kept`` that no reader looks at."""
    return kept.with_name(f".{kept.name}.{uuid.uuid4().hex[:8]}")


@contextmanager
def _arriving(kept: Path) -> Iterator[Path]:
    kept.parent.mkdir(parents=True, exist_ok=True)
    arriving = hidden_path(kept)
    try:
        yield arriving
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _is_whole(kept: Path) -> bool:
    try:
        check_files(kept, read_manifest(kept))
    except IndexMismatchError:
        return False
    return True


def _publish(arrived: Path, kept: Path) -> None:
    manifest = read_manifest(arrived)
    if manifest.version != kept.name:
        raise IndexMismatchError(f"version {kept.name} was rebuilt while it was read; serve it again")
    check_files(arrived, manifest)
    shutil.rmtree(kept, ignore_errors=True)
    arrived.rename(kept)


def _link(directory: Path, target: Path, names: list[str]) -> None:
    for name in names:
        _link_or_copy(directory / name, target / name)


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        link_file(source, target)
    except FileNotFoundError:
        raise IndexMismatchError(f"{source} is missing; fetch the version again, or build it again") from None
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(source, target)
