"""Retriever versions of a few passages, quick to make and to load."""

from collections.abc import Sequence
from pathlib import Path

from tiny_models import tiny_encoder

from winnow import schema
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.text import passage_text
from winnow.records import Passage
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import to_table, writing_embeddings
from winnow.retrieval.version import write_version

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
