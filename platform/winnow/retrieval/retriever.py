"""The retriever: an encoder and the index it filled, as one version."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from winnow import schema
from winnow.errors import IndexMismatchError
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.protocol import Encode
from winnow.records import ScoredPassage
from winnow.retrieval.vector_index import VectorIndex
from winnow.retrieval.version import ENCODER, INDEX, PASSAGES, Manifest, check_files, read_manifest


class Retriever:
    """Queries in, passages out. Refuses parts that do not belong together. Safe to share between threads."""

    def __init__(self, encoder: Encode, index: VectorIndex, passages: pa.Table, manifest: Manifest) -> None:
        _check_fit(encoder, index, passages, manifest)
        self._encoder = encoder
        self._index = index
        self._manifest = manifest
        # Columns, not records: millions of Python objects would take several times the memory.
        self._ids, self._titles, self._texts = (passages[name] for name in ("passage_id", "title", "text"))

    @property
    def version(self) -> str:
        """A short id of encoder, index and passages together."""
        return self._manifest.version

    def info(self) -> dict[str, Any]:
        """Facts about this version, as plain JSON values."""
        return {"version": self.version, **self._manifest.model_dump(exclude={"files", "format"})}

    def search(self, queries: Sequence[str], k: int) -> list[list[ScoredPassage]]:
        """At most ``k`` passages per query, best first, with title and text."""
        if not queries:
            return []
        return self.search_vectors(self._encoder.encode(queries, side="query"), k)

    def search_vectors(self, queries_QD: NDArray[np.float32], k: int) -> list[list[ScoredPassage]]:
        """As ``search``, for queries that are encoded already."""
        scores_QK, positions_QK = self._index.search(queries_QD, k)
        return [
            [self._result(position, score) for score, position in zip(scores, positions, strict=True) if position >= 0]
            for scores, positions in zip(scores_QK.tolist(), positions_QK.tolist(), strict=True)
        ]

    def _result(self, position: int, score: float) -> ScoredPassage:
        row = (column[position].as_py() for column in (self._ids, self._titles, self._texts))
        passage_id, title, text = row
        return ScoredPassage(passage_id, score, title, text)


def load_retriever(directory: Path, *, device: torch.device | str | None = None) -> Retriever:
    """The retriever version in ``directory``, loaded only after every file was found as its manifest says.

    Searches use as many threads as torch does in this process. Raises ``IndexMismatchError``.
    """
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    # FAISS brings its own OpenMP, which would take all cores beside torch's threads.
    faiss.omp_set_num_threads(torch.get_num_threads())
    encoder = DenseEncoder.load(directory / ENCODER, device=device)
    passages = schema.read_dataset(directory / PASSAGES, schema.PASSAGES)
    return Retriever(encoder, VectorIndex.load(directory / INDEX), passages, manifest)


def _check_fit(encoder: Encode, index: VectorIndex, passages: pa.Table, manifest: Manifest) -> None:
    expected = {
        "encoder fingerprint": (encoder.fingerprint, manifest.encoder_fingerprint),
        "dimension of the encoder": (encoder.dimension, manifest.dimension),
        "dimension of the index": (index.dimension, manifest.dimension),
        "vectors in the index": (index.count, manifest.num_passages),
        "passages": (passages.num_rows, manifest.num_passages),
    }
    wrong = [f"{name}: {found!r}, expected {told!r}" for name, (found, told) in expected.items() if found != told]
    if wrong:
        raise IndexMismatchError(
            f"these parts are not of one retriever version: {'; '.join(wrong)}; "
            f"search with the encoder that filled the index, or run `winnow index` again"
        )
