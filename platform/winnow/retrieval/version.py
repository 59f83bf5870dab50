"""A retriever version, written as one: encoder, indexes and passages. ``version_files.py`` says where they lie."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

from winnow.errors import IndexMismatchError
from winnow.modeling.encoder import DenseEncoder
from winnow.retrieval.building import build_index
from winnow.retrieval.config import IndexConfig, Language
from winnow.retrieval.embeddings import EmbeddingScan, scan_embeddings
from winnow.retrieval.fields import FieldIndex
from winnow.retrieval.manifest import ContractRecord, Manifest, Provenance, read_manifest, write_manifest
from winnow.retrieval.passages import PassageFile, read_batches, write_passages
from winnow.retrieval.version_files import BM25, ENCODER, FIELDS, INDEX, PARTS, PASSAGES, record_files


def write_version(
    directory: Path,
    *,
    encoder: DenseEncoder,
    passages: Path,
    embeddings: Path,
    config: IndexConfig,
    language: Language = "english",
    card: Path | None = None,
    seed: int = 0,
    run_id: str | None = None,
    built_at: datetime | None = None,
) -> Manifest:
    """Fill ``directory`` with a retriever version, the encoder's ``card`` in it; ``built_at`` is now unless it is said.

    Vectors and passages are read block by block. ``language`` is for BM25. Raises
    ``IndexMismatchError`` if the inputs do not fit together.
    """
    scan = scan_embeddings(embeddings)
    _check_inputs(encoder, scan, passages)
    _clear(directory)
    write_passages(passages, directory / PASSAGES)
    stored = PassageFile.load(directory / PASSAGES)
    fields = FieldIndex.build(stored)
    fields.save(directory / FIELDS)
    build_index(
        directory / INDEX, scan.blocks, num_vectors=scan.count, dimension=scan.dimension, config=config, seed=seed
    )
    if config.bm25:
        _write_bm25(stored, directory / BM25, language)
    encoder.save(directory / ENCODER)
    if card is not None:
        shutil.copyfile(card, directory / ENCODER / card.name)
    manifest = Manifest(
        encoder_fingerprint=encoder.fingerprint,
        contract=ContractRecord(**asdict(encoder.contract)),
        dimension=scan.dimension,
        num_passages=scan.count,
        factory=config.factory,
        bm25_language=language if config.bm25 else None,
        fields=fields.counts,
        files=record_files(directory),
        provenance=Provenance(built_at=built_at or datetime.now(UTC), run_id=run_id),
    )
    write_manifest(directory, manifest)
    return read_manifest(directory)


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
    for part in PARTS:
        path = directory / part
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_bm25(passages: PassageFile, directory: Path, language: Language) -> None:
    from winnow.retrieval.bm25 import LexicalIndex  # loads numba

    LexicalIndex.build(passages, language).save(directory)
