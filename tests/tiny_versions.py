"""Retriever versions of a few passages, quick to make and to load."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tiny_models import tiny_encoder

from winnow import schema
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.text import passage_text
from winnow.records import Passage
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import to_table, writing_embeddings
from winnow.retrieval.manifest import ContractRecord, Manifest, Provenance, write_manifest
from winnow.retrieval.version import write_version
from winnow.retrieval.version_files import ENCODER, FIELDS, INDEX, record_files
from winnow.retrieval.version_files import PASSAGES as PASSAGES_FILE

PASSAGES = (
    Passage("otter", "otters sleep holding hands", title="Otter", metadata={"kind": "animal"}),
    Passage("bridge", "a bridge made of stone", metadata={"kind": "building"}),
    Passage("rain", "rain falls on the river all night long", metadata={"kind": "weather"}),
    Passage("bread", "bread rises in a warm kitchen", metadata={"kind": "food"}),
    Passage("train", "the night train leaves at nine", metadata={"kind": "building"}),
)


def write_tiny_version(
    directory: Path,
    passages: Sequence[Passage] = PASSAGES,
    *,
    encoder: DenseEncoder | None = None,
    indexed_with: DenseEncoder | None = None,
    config: IndexConfig = IndexConfig(),
) -> Path:
    """``directory`` with a version of ``passages``. ``indexed_with``: another encoder that made the vectors."""
    directory.mkdir(parents=True)
    encoder = encoder or tiny_encoder()
    corpus = directory.parent / f"{directory.name}-passages.parquet"
    schema.write_dataset(corpus, schema.to_table(passages, schema.PASSAGES))
    embeddings = directory.parent / f"{directory.name}-embeddings.parquet"
    vectors_PD = (indexed_with or encoder).encode([passage_text(passage) for passage in passages], side="passage")
    with writing_embeddings(embeddings, fingerprint="f") as append:
        append(to_table([passage.passage_id for passage in passages], vectors_PD))
    write_version(directory, encoder=encoder, passages=corpus, embeddings=embeddings, config=config)
    return directory


def write_bare_version(directory: Path, content: str) -> Path:
    """``directory`` with what is whole by its manifest, though nothing could load it: every file holds ``content``."""
    for name in (f"{ENCODER}/config.json", f"{INDEX}/index.json", FIELDS, PASSAGES_FILE):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
    contract = ContractRecord(
        pooling="mean",
        normalise=True,
        query_prefix="",
        passage_prefix="",
        query_max_tokens=8,
        passage_max_tokens=8,
    )
    manifest = Manifest(
        encoder_fingerprint="f",
        contract=contract,
        dimension=1,
        num_passages=1,
        factory="Flat",
        bm25_language=None,
        fields={},
        files=record_files(directory),
        provenance=Provenance(built_at=datetime(2026, 1, 1, tzinfo=UTC), run_id=None),
    )
    write_manifest(directory, manifest)
    return directory
