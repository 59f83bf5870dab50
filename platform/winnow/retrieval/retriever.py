"""The retriever: an encoder and the indexes of one corpus, as one version.

Legend: Q queries, K results, D dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from winnow.digests import Verify
from winnow.errors import DataError, IndexMismatchError
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.protocol import Encode
from winnow.records import ScoredPassage
from winnow.retrieval.config import FusionConfig, Language, ListName, Mode
from winnow.retrieval.contents import check_contents
from winnow.retrieval.fields import FieldIndex
from winnow.retrieval.filtering import Filter, FilterCache, check_fields
from winnow.retrieval.fusion import RankedList, fuse
from winnow.retrieval.manifest import Manifest, read_manifest
from winnow.retrieval.passages import PassageFile
from winnow.retrieval.subset import Subset
from winnow.retrieval.vector_index import VectorIndex
from winnow.retrieval.version_files import BM25, ENCODER, FIELDS, INDEX, PASSAGES, check_files

if TYPE_CHECKING:
    from winnow.retrieval.bm25 import LexicalIndex


@dataclass(frozen=True, slots=True)
class Hits:
    """Results by position, best first."""

    scores_QK: NDArray[np.float32]
    positions_QK: NDArray[np.int64]
    """-1: there is no further result."""
    words_cut_Q: Sequence[int] = ()
    """How many different words of each query BM25 left out; empty if it had to leave out none."""
    empty_lists_Q: Sequence[Sequence[ListName]] = ()
    """Of a hybrid search: the lists in which nothing was found for each query; empty if there was none."""


class Retriever:
    """Queries in, passages out. Refuses parts that do not belong together. Safe to share between threads."""

    def __init__(
        self,
        encoder: Encode,
        index: VectorIndex,
        passages: PassageFile,
        manifest: Manifest,
        filters: FilterCache,
        *,
        lexical: LexicalIndex | None = None,
        fusion: FusionConfig = FusionConfig(),
    ) -> None:
        _check_fit(encoder, index, passages, manifest, lexical)
        self.encoder = encoder
        self.version = manifest.version
        """A short id of encoder, indexes and passages together."""
        self.modes: tuple[Mode, ...] = ("dense",) if lexical is None else get_args(Mode)
        self._index = index
        self._passages = passages
        self._manifest = manifest
        self._lexical = lexical
        self._fusion = fusion
        self._filters = filters

    def with_encoder(self, encoder: Encode) -> Retriever:
        """The same version with another runtime of its encoder. Raises ``IndexMismatchError`` for another encoder."""
        parts = (self._index, self._passages, self._manifest, self._filters)
        return Retriever(encoder, *parts, lexical=self._lexical, fusion=self._fusion)

    def info(self) -> dict[str, Any]:
        """Facts about this version, as plain JSON values."""
        facts = self._manifest.model_dump(mode="json", exclude={"files", "format", "fields"})
        fields = list(self._filters.fields)
        return {"version": self.version, **facts, "modes": list(self.modes), "filter_fields": fields}

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        mode: Mode = "dense",
        filter: Filter | None = None,
        with_text: bool = True,
    ) -> list[list[ScoredPassage]]:
        """At most ``k`` passages per query, best first. Raises ``DataError`` for a mode or field it does not have."""
        if not queries:
            return []
        self.check(mode, filter)
        queries_QD = None if mode == "bm25" else self.encoder.encode(queries, side="query")
        return self.fetch(self.rank(queries, queries_QD, k, mode=mode, filter=filter), with_text=with_text)

    def rank(
        self,
        queries: Sequence[str],
        queries_QD: NDArray[np.float32] | None,
        k: int,
        *,
        mode: Mode = "dense",
        filter: Filter | None = None,
        most_words: int | None = None,
    ) -> Hits:
        """As ``search``, for ``queries`` that are encoded already (``None`` for ``bm25``), and without passages.

        ``most_words``: the most different words of a query that BM25 looks up, the rarest; ``None`` is all of them.
        """
        self.check(mode, filter)
        if k < 1:
            raise DataError(f"k={k} asks for no passage; expected at least 1")
        among = self._filters.subset(filter)
        if among is not None and among.count == 0:
            empty = [get_args(ListName)] * len(queries) if mode == "hybrid" else ()
            return replace(_pad([_NOTHING] * len(queries)), empty_lists_Q=empty)
        if mode == "dense":
            return self.search_vectors(queries_QD, k, among=among)
        if mode == "bm25":
            hits = _pad(self._lexical.rank(queries, k, among=among, most_words=most_words))
        else:
            hits = self._rank_both(queries, queries_QD, k, among, most_words)
        cut = [] if most_words is None else self._lexical.words_cut(queries, most_words)
        return replace(hits, words_cut_Q=cut) if any(cut) else hits

    def check(self, mode: Mode, filter: Filter | None) -> None:
        """Returns if this version can be searched so. Raises ``DataError`` for a mode or field it does not have."""
        if mode not in self.modes:
            raise DataError(
                f"version {self.version} cannot be searched by {mode!r}, only by {', '.join(self.modes)}; "
                f"build it with `index.bm25: true`"
            )
        if filter is not None:
            check_fields(filter, self._filters.fields)

    def search_vectors(self, queries_QD: NDArray[np.float32], k: int, *, among: Subset | None = None) -> Hits:
        """The best passages by dot product, of all or of some."""
        if queries_QD.shape[-1] != self._index.dimension:
            raise IndexMismatchError(
                f"the queries have {queries_QD.shape[-1]} dimensions and version {self.version} has "
                f"{self._index.dimension}; encode them with its own encoder"
            )
        return Hits(*self._index.search(queries_QD, k, among=among))

    def fetch(self, hits: Hits, *, with_text: bool = True) -> list[list[ScoredPassage]]:
        """The passages of ``hits``; without text, ``text`` is empty."""
        return [
            self._passages.results(positions_K[found], scores_K[found], with_text=with_text)
            for scores_K, positions_K, found in zip(
                hits.scores_QK, hits.positions_QK, hits.positions_QK >= 0, strict=True
            )
        ]

    def _rank_both(
        self,
        queries: Sequence[str],
        queries_QD: NDArray[np.float32],
        k: int,
        among: Subset | None,
        most_words: int | None,
    ) -> Hits:
        depth = max(k, self._fusion.depth)
        dense = self.search_vectors(queries_QD, depth, among=among)
        lexical = self._lexical.rank(queries, depth, among=among, most_words=most_words)
        both = list(zip(_lists(dense), lexical, strict=True))
        ties = self._lexical.tie_order_P
        united = [fuse(*lists, config=self._fusion, tie_order_P=ties, k=k) for lists in both]
        empty = [_empty(*lists) for lists in both]
        return replace(_pad(united), empty_lists_Q=empty if any(empty) else ())


def load_retriever(
    directory: Path,
    *,
    device: torch.device | str | None = None,
    fusion: FusionConfig = FusionConfig(),
    memory_map: bool = True,
    index_device: Literal["cpu", "cuda"] = "cpu",
    verify: Verify = "changed",
) -> Retriever:
    """The retriever version in ``directory``, loaded only after every file was found as its manifest says.

    ``device`` is the encoder's, ``index_device`` where vectors are compared; ``verify`` says which files are
    read for that. Raises ``IndexMismatchError``.
    """
    manifest = read_manifest(directory)
    check_files(directory, manifest, verify=verify)
    check_contents(directory, manifest.files, encoder=ENCODER)
    # FAISS brings its own OpenMP, which would take all cores beside torch's threads.
    faiss.omp_set_num_threads(torch.get_num_threads())
    passages = PassageFile.load(directory / PASSAGES)
    fields = FieldIndex.load(directory / FIELDS, manifest.fields, passages, memory_map=memory_map)
    return Retriever(
        _load_encoder(directory / ENCODER, manifest, device),
        VectorIndex.load(directory / INDEX, memory_map=memory_map, device=index_device),
        passages,
        manifest,
        FilterCache(fields),
        lexical=_load_lexical(directory / BM25, manifest.bm25_language, memory_map),
        fusion=fusion,
    )


_NOTHING: RankedList = (np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64))


def _lists(hits: Hits) -> list[RankedList]:
    """The results of each query, without those that are missing."""
    return [
        (scores_K[positions_K >= 0], positions_K[positions_K >= 0])
        for scores_K, positions_K in zip(hits.scores_QK, hits.positions_QK, strict=True)
    ]


def _empty(dense: RankedList, lexical: RankedList) -> tuple[ListName, ...]:
    lists: dict[ListName, RankedList] = {"dense": dense, "bm25": lexical}
    return tuple(name for name, (_, positions_K) in lists.items() if not len(positions_K))


def _pad(ranked: Sequence[RankedList]) -> Hits:
    """Lists of different lengths as rows, filled up with positions of -1."""
    width = max((len(positions) for _, positions in ranked), default=0)
    scores_QK = np.full((len(ranked), width), -np.inf, dtype=np.float32)
    positions_QK = np.full((len(ranked), width), -1, dtype=np.int64)
    for row, (scores, positions) in enumerate(ranked):
        scores_QK[row, : len(scores)] = scores
        positions_QK[row, : len(positions)] = positions
    return Hits(scores_QK, positions_QK)


def _load_encoder(directory: Path, manifest: Manifest, device: torch.device | str | None) -> DenseEncoder:
    encoder = DenseEncoder.load(directory, device=device)
    if (found := asdict(encoder.contract)) != (told := manifest.contract.model_dump()):
        different = [f"{name} {found[name]!r}, expected {told[name]!r}" for name in told if found[name] != told[name]]
        raise IndexMismatchError(
            f"the encoder in {str(directory)!r} has another contract than its manifest says: {'; '.join(different)}; "
            f"run `winnow index` again"
        )
    return encoder


def _load_lexical(directory: Path, language: Language | None, memory_map: bool) -> LexicalIndex | None:
    if language is None:
        return None
    from winnow.retrieval.bm25 import LexicalIndex  # loads numba

    return LexicalIndex.load(directory, language, memory_map=memory_map)


def _check_fit(
    encoder: Encode, index: VectorIndex, passages: PassageFile, manifest: Manifest, lexical: LexicalIndex | None
) -> None:
    expected = {
        "encoder fingerprint": (encoder.fingerprint, manifest.encoder_fingerprint),
        "dimension of the encoder": (encoder.dimension, manifest.dimension),
        "dimension of the index": (index.dimension, manifest.dimension),
        "kind of index": (index.factory, manifest.factory),
        "vectors in the index": (index.count, manifest.num_passages),
        "passages": (len(passages), manifest.num_passages),
        "passages in BM25": (lexical.count if lexical else manifest.num_passages, manifest.num_passages),
    }
    wrong = [f"{name}: {found!r}, expected {told!r}" for name, (found, told) in expected.items() if found != told]
    if wrong:
        raise IndexMismatchError(
            f"these parts are not of one retriever version: {'; '.join(wrong)}; "
            f"search with the encoder that filled the index, or run `winnow index` again"
        )
