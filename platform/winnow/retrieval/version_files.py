"""The files of a retriever version: what they are called, and whether they are what the manifest says.

::

    encoder/           a sentence-transformers directory
    index/             vector i belongs to row i of the passages
    bm25/              document i does so too; only with `index.bm25`
    fields.npy         which passages have which value in a field; see ``fields.py``
    passages.arrow     ids, titles, texts, document ids, metadata
    manifest.json      see ``manifest.py``
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from winnow.digests import Verify, file_digest
from winnow.errors import IndexMismatchError
from winnow.retrieval.manifest import FileRecord, Manifest

ENCODER = "encoder"
INDEX = "index"
BM25 = "bm25"
FIELDS = "fields.npy"
PASSAGES = "passages.arrow"
PARTS = (ENCODER, INDEX, BM25, FIELDS, PASSAGES)
_HASH_THREADS = min(8, os.cpu_count() or 1)


def check_files(directory: Path, manifest: Manifest, *, verify: Verify = "changed") -> None:
    """Returns if every file is what the manifest says. Raises ``IndexMismatchError`` naming those that are not.

    A file is read unless this machine knows its hash; ``verify="always"`` reads it all the same.
    """
    parts = [part for part in PARTS if part != BM25 or manifest.bm25_language is not None]
    absent = [part for part in parts if not any(name.split("/")[0] == part for name in manifest.files)]
    problems = [f"the manifest does not list {part}" for part in absent]
    # A library may read any file it finds beside its own, so none may be added either.
    added = sorted({name for part in PARTS for name in _list_files(directory, part)} - manifest.files.keys())
    problems += [f"{directory / name} is not in the manifest" for name in added]
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        names = sorted(manifest.files)
        differences = pool.map(lambda name: _difference(directory / name, manifest.files[name], verify), names)
        problems += [difference for difference in differences if difference is not None]
    if problems:
        raise IndexMismatchError(
            f"the retriever version at {str(directory)!r} is damaged: {'; '.join(problems[:3])}; "
            f"fetch it again, or build it with `winnow index --force`"
        )


def record_files(directory: Path) -> dict[str, FileRecord]:
    """Size and hash of every file in ``directory`` that belongs to the version, for its manifest."""
    names = sorted(name for part in PARTS for name in _list_files(directory, part))
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        digests = list(pool.map(lambda name: file_digest(directory / name), names))
    return {
        name: FileRecord(size=(directory / name).stat().st_size, sha256=digest)
        for name, digest in zip(names, digests, strict=True)
    }


def _list_files(directory: Path, part: str) -> Sequence[str]:
    """Everything in ``part`` that is no real directory, hidden files and links among it."""
    path = directory / part
    found = path.rglob("*") if path.is_dir() else [path]
    return [entry.relative_to(directory).as_posix() for entry in found if entry.is_symlink() or entry.is_file()]


def _difference(path: Path, record: FileRecord, verify: Verify) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    if (size := path.stat().st_size) != record.size:
        return f"{path} has {size:,} bytes, the manifest says {record.size:,}"
    try:
        digest = file_digest(path, verify=verify)
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    if digest != record.sha256:
        return f"{path} has SHA-256 {digest[:12]}..., the manifest says {record.sha256[:12]}..."
    return None
