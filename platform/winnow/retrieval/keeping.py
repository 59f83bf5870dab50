"""Retriever versions kept by content, so that a rebuild in the same place changes nothing that is served."""

import os
import shutil
import uuid
from pathlib import Path

from filelock import FileLock

from winnow.errors import IndexMismatchError
from winnow.retrieval.manifest import MANIFEST, read_manifest
from winnow.retrieval.version_files import check_files


def keep_version(directory: Path, cache: Path) -> Path:
    """The version in ``directory`` under its id in ``cache``, hard-linked, or copied from another file system.

    Raises ``IndexMismatchError`` for a version that is damaged or was rebuilt meanwhile.
    """
    manifest = read_manifest(directory)
    kept = cache / "versions" / manifest.version
    if directory.resolve() == kept.resolve():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_name(f".{kept.name}.lock")):
        if not _is_whole(kept):
            _link(directory, kept, [*manifest.files, MANIFEST])
    return kept


def _is_whole(kept: Path) -> bool:
    try:
        check_files(kept, read_manifest(kept))
    except IndexMismatchError:
        return False
    return True


def _link(directory: Path, kept: Path, names: list[str]) -> None:
    arriving = kept.with_name(f".{kept.name}.{uuid.uuid4().hex[:8]}")
    try:
        for name in names:
            _link_file(directory / name, arriving / name)
        # Checked here and not before: what was linked cannot be exchanged any more.
        if (found := read_manifest(arriving)).version != kept.name:
            raise IndexMismatchError(f"{str(directory)!r} was rebuilt while it was read; serve it again")
        check_files(arriving, found)
        shutil.rmtree(kept, ignore_errors=True)
        arriving.rename(kept)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _link_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise IndexMismatchError(f"{source} is missing; fetch the version again, or build it again") from None
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(source, target)
