"""A retriever version on disk: the encoder, the index it filled, the passages, and a manifest that ties them.

::

    encoder/           a sentence-transformers directory
    index.faiss        vector i belongs to row i of
    passages.parquet
    manifest.json      encoder fingerprint, counts, metric, size and SHA-256 of every file above
"""

import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from winnow import schema
from winnow.config import fingerprint
from winnow.errors import IndexMismatchError
from winnow.files import hash_file, hash_tree, read_json, write_json
from winnow.modeling.encoder import DenseEncoder
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import read_embeddings
from winnow.retrieval.vector_index import METRIC, VectorIndex

MANIFEST = "manifest.json"
ENCODER = "encoder"
INDEX = "index.faiss"
PASSAGES = "passages.parquet"
_PARTS = (ENCODER, INDEX, PASSAGES)


class FileRecord(BaseModel):
    """What a file must be like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """What belongs together. There is no time in it: equal versions have equal manifests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    encoder_fingerprint: str
    dimension: int = Field(gt=0)
    num_passages: int = Field(gt=0)
    metric: Literal["inner_product"]
    factory: str
    files: dict[str, FileRecord]

    @property
    def version(self) -> str:
        """A short id; it changes with anything in the manifest, and so with any byte of the files."""
        return fingerprint(self.model_dump())[:12]


def write_version(
    directory: Path,
    *,
    encoder: DenseEncoder,
    passages: Path,
    embeddings: Path,
    config: IndexConfig,
    card: Path | None = None,
) -> Manifest:
    """Fill ``directory`` with a retriever version, the encoder's ``card`` in it. Raises ``IndexMismatchError`` if the
    inputs do not fit."""
    passage_ids, embeddings_PD = read_embeddings(embeddings)
    if passage_ids != schema.read_dataset(passages, schema.PASSAGES)["passage_id"].to_pylist():
        raise IndexMismatchError(f"{embeddings} is not of the passages in {passages}; delete it and run the step again")
    index = VectorIndex.build(embeddings_PD, config)
    index.save(directory / INDEX)
    encoder.save(directory / ENCODER)
    if card is not None:
        shutil.copyfile(card, directory / ENCODER / card.name)
    shutil.copyfile(passages, directory / PASSAGES)
    manifest = Manifest(
        encoder_fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        num_passages=index.count,
        metric=METRIC,
        factory=config.factory,
        files=_record_files(directory),
    )
    write_json(directory / MANIFEST, manifest.model_dump())
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest in ``directory``. Raises ``IndexMismatchError``."""
    path = directory / MANIFEST
    if not path.exists():
        raise IndexMismatchError(
            f"no retriever version at {str(directory)!r} (it has no {MANIFEST}); build one with `winnow index`"
        )
    try:
        return Manifest.model_validate(read_json(path))
    except (ValidationError, ValueError) as error:
        raise IndexMismatchError(f"{path} is no manifest of this release; run `winnow index` again: {error}") from None


def check_files(directory: Path, manifest: Manifest) -> None:
    """Returns if every file is what the manifest says. Raises ``IndexMismatchError`` naming those that are not."""
    problems = [
        problem
        for name, record in sorted(manifest.files.items())
        if (problem := _difference(directory / name, record)) is not None
    ]
    # A library may read any file it finds beside the weights, so none may be added either.
    added = sorted({f"{ENCODER}/{name}" for name in hash_tree(directory / ENCODER)} - manifest.files.keys())
    problems += [f"{directory / name} is not in the manifest" for name in added]
    absent = [part for part in _PARTS if not any(name.split("/")[0] == part for name in manifest.files)]
    problems += [f"the manifest does not list {part}" for part in absent]
    if problems:
        raise IndexMismatchError(
            f"the retriever version at {str(directory)!r} is damaged: {'; '.join(problems[:3])}; "
            f"fetch it again, or build it with `winnow index --force`"
        )


def _record_files(directory: Path) -> dict[str, FileRecord]:
    hashes = {name: digest for name, digest in hash_tree(directory).items() if name.split("/")[0] in _PARTS}
    return {name: FileRecord(size=(directory / name).stat().st_size, sha256=digest) for name, digest in hashes.items()}


def _difference(path: Path, record: FileRecord) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    if (size := path.stat().st_size) != record.size:
        return f"{path} has {size:,} bytes, the manifest says {record.size:,}"
    if (digest := hash_file(path)) != record.sha256:
        return f"{path} has SHA-256 {digest[:12]}..., the manifest says {record.sha256[:12]}..."
    return None
