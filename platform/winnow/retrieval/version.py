"""A retriever version on disk: encoder, indexes and passages, written and checked as one.

::

    encoder/           a sentence-transformers directory
    index/             vector i belongs to row i of the passages
    bm25/              document i does so too; only with `index.bm25`
    passages.arrow     ids, titles, texts, document ids, metadata
    manifest.json      see ``manifest.py``
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

from winnow.errors import IndexMismatchError
from winnow.files import hash_file
from winnow.modeling.encoder import DenseEncoder
from winnow.retrieval.building import build_index
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import EmbeddingScan, scan_embeddings
from winnow.retrieval.manifest import ContractRecord, FileRecord, Manifest, Provenance, read_manifest, write_manifest
from winnow.retrieval.passages import PassageFile, read_batches, write_passages

ENCODER = "encoder"
INDEX = "index"
BM25 = "bm25"
PASSAGES = "passages.arrow"
_PARTS = (ENCODER, INDEX, BM25, PASSAGES)
_HASH_THREADS = min(8, os.cpu_count() or 1)


def write_version(
    directory: Path,
    *,
    encoder: DenseEncoder,
    passages: Path,
    embeddings: Path,
    config: IndexConfig,
    card: Path | None = None,
    seed: int = 0,
    run_id: str | None = None,
    built_at: datetime | None = None,
) -> Manifest:
    """Fill ``directory`` with a retriever version, the encoder's ``card`` in it; ``built_at`` is now unless it is said.

    Vectors and passages are read block by block. Raises ``IndexMismatchError`` if the inputs do not fit together.
    """
    scan = scan_embeddings(embeddings)
    _check_inputs(encoder, scan, passages)
    _clear(directory)
    write_passages(passages, directory / PASSAGES)
    stored = PassageFile.load(directory / PASSAGES)
    build_index(
        directory / INDEX, scan.blocks, num_vectors=scan.count, dimension=scan.dimension, config=config, seed=seed
    )
    if config.bm25:
        _write_bm25(stored, directory / BM25)
    encoder.save(directory / ENCODER)
    if card is not None:
        shutil.copyfile(card, directory / ENCODER / card.name)
    manifest = Manifest(
        encoder_fingerprint=encoder.fingerprint,
        contract=ContractRecord(**asdict(encoder.contract)),
        dimension=scan.dimension,
        num_passages=scan.count,
        factory=config.factory,
        has_bm25=config.bm25,
        metadata_fields=stored.metadata_fields(),
        files=_record_files(directory),
        provenance=Provenance(built_at=built_at or datetime.now(UTC), run_id=run_id),
    )
    write_manifest(directory, manifest)
    return read_manifest(directory)


def check_files(directory: Path, manifest: Manifest) -> None:
    """Returns if every file is what the manifest says. Raises ``IndexMismatchError`` naming those that are not."""
    parts = [part for part in _PARTS if part != BM25 or manifest.has_bm25]
    absent = [part for part in parts if not any(name.split("/")[0] == part for name in manifest.files)]
    problems = [f"the manifest does not list {part}" for part in absent]
    # A library may read any file it finds beside its own, so none may be added either.
    added = sorted({name for part in _PARTS for name in _list_files(directory, part)} - manifest.files.keys())
    problems += [f"{directory / name} is not in the manifest" for name in added]
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        differences = pool.map(lambda name: _difference(directory / name, manifest.files[name]), sorted(manifest.files))
        problems += [difference for difference in differences if difference is not None]
    if problems:
        raise IndexMismatchError(
            f"the retriever version at {str(directory)!r} is damaged: {'; '.join(problems[:3])}; "
            f"fetch it again, or build it with `winnow index --force`"
        )


def _check_inputs(encoder: DenseEncoder, scan: EmbeddingScan, passages: Path) -> None:
    if scan.dimension != encoder.dimension:
        raise IndexMismatchError(
            f"{scan.path} holds vectors of {scan.dimension} dimensions and the encoder gives {encoder.dimension}; "
            f"encode the passages with this encoder"
        )
    for row, (embedded, stored) in enumerate(zip_longest(scan.passage_ids(), _passage_ids(passages))):
        if embedded != stored:
            raise IndexMismatchError(
                f"{scan.path} is not of the passages in {passages}: row {row} is {embedded!r} there and {stored!r} "
                f"here; delete the embeddings and run the step again"
            )


def _passage_ids(passages: Path) -> Iterator[str]:
    for batch in read_batches(passages):
        yield from batch.column("passage_id").to_pylist()


def _clear(directory: Path) -> None:
    """Remove what an interrupted attempt left, which the manifest would list."""
    for part in _PARTS:
        path = directory / part
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_bm25(passages: PassageFile, directory: Path) -> None:
    from winnow.retrieval.bm25 import LexicalIndex  # loads numba

    LexicalIndex.build(passages).save(directory)


def _record_files(directory: Path) -> dict[str, FileRecord]:
    names = sorted(name for part in _PARTS for name in _list_files(directory, part))
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        digests = list(pool.map(lambda name: hash_file(directory / name), names))
    return {
        name: FileRecord(size=(directory / name).stat().st_size, sha256=digest)
        for name, digest in zip(names, digests, strict=True)
    }


def _list_files(directory: Path, part: str) -> Sequence[str]:
    """Everything in ``part`` that is no real directory, hidden files and links among it."""
    path = directory / part
    found = path.rglob("*") if path.is_dir() else [path]
    return [entry.relative_to(directory).as_posix() for entry in found if entry.is_symlink() or entry.is_file()]


def _difference(path: Path, record: FileRecord) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    if (size := path.stat().st_size) != record.size:
        return f"{path} has {size:,} bytes, the manifest says {record.size:,}"
    try:
        digest = hash_file(path)
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    if digest != record.sha256:
        return f"{path} has SHA-256 {digest[:12]}..., the manifest says {record.sha256[:12]}..."
    return None
