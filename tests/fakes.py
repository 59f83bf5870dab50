"""Stand-ins for tests, each small enough to be obviously right. Never imported by the product."""

import asyncio
import os
import signal
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from winnow.api.protocol import EmbeddingAnswer, Readiness, SearchAnswer, SearchOptions, TextTooLongError
from winnow.modeling.protocol import Side
from winnow.records import Passage, ScoredPassage
from winnow.retrieval.filtering import Filter
from winnow.retrieval.reference import Located
from winnow.retrieval.subset import Subset


class OverlapSearcher:
    """Ranks a few passages by how many words they share with the query. Answers as a served retriever does."""

    def __init__(self, passages: Sequence[Passage], *, version: str = "v1") -> None:
        self.version = version
        self.asked: list[SearchOptions] = []
        """The options of every search, in order."""
        self.pause: asyncio.Event | None = None
        """Set to an event to hold every search until the event is set."""
        self.state = Readiness(is_ready=True, detail="a search has just worked", version=version, age_s=0.5)
        self._passages = passages

    async def search(self, queries: Sequence[str], options: SearchOptions) -> SearchAnswer:
        self.asked.append(options)
        if self.pause is not None:
            await self.pause.wait()
        return SearchAnswer(self.version, [self._rank(query, options)[: options.k] for query in queries])

    async def embed(self, texts: Sequence[str], side: Side, *, truncate: bool = True) -> EmbeddingAnswer:
        """Vectors, as of an encoder that takes 100 words."""
        is_cut = [len(text.split()) > 100 for text in texts]
        if any(is_cut) and not truncate:
            raise TextTooLongError(f"input.{is_cut.index(True)} has more than 100 words")
        embeddings_ND = HashEncoder(dimension=8).encode([f"{side} {text}" for text in texts], side=side)
        num_words = sum(min(100, len(text.split())) for text in texts)
        return EmbeddingAnswer(self.version, embeddings_ND, num_words, num_truncated=sum(is_cut))

    def readiness(self) -> Readiness:
        return self.state

    def info(self) -> Mapping[str, Any]:
        return {"version": self.version, "count": len(self._passages)}

    def _rank(self, query: str, options: SearchOptions) -> list[ScoredPassage]:
        words = set(query.lower().split())
        scored = [
            (len(words & set(passage.text.lower().split())), passage)
            for passage in self._passages
            if options.filter is None or _matches(passage, options.filter)
        ]
        ranked = sorted(scored, key=lambda pair: (-pair[0], pair[1].passage_id))
        return [
            ScoredPassage(
                passage.passage_id,
                float(score),
                passage.title,
                passage.text if options.with_text else "",
                document_id=passage.document_id,
                metadata=passage.metadata,
            )
            for score, passage in ranked
        ]


def _matches(passage: Passage, wanted: Filter) -> bool:
    fields = {"passage_id": passage.passage_id, "document_id": passage.document_id, **(passage.metadata or {})}
    return all(fields.get(field) in values for field, values in wanted.conditions)


class ListLogger:
    """Keeps what a run logs, as ``(step, values)``."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        self.lines.append((step, dict(values)))


class DyingLogger(ListLogger):
    """Kills its process after ``step``, as a machine out of memory does; once, which ``marker`` remembers."""

    def __init__(self, step: int, *, marker: Path) -> None:
        super().__init__()
        self._step = step
        self._marker = marker

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        super().metrics(values, step=step)
        if step == self._step and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class MeanTower:
    """A text's embedding is a linear map of the mean of its tokens' vectors; float64, the same on every start."""

    dimension = 4
    packs = False

    def __init__(self, *, vocabulary: int = 50, dropout: float = 0.0) -> None:
        draws = torch.Generator().manual_seed(5)
        self.module = nn.Sequential(nn.Embedding(vocabulary, 6), nn.Dropout(dropout), nn.Linear(6, self.dimension))
        self.module.to(torch.float64)
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draws, dtype=torch.float64))

    def embed(self, token_ids: Sequence[Sequence[int]], *, side: Side) -> torch.Tensor:
        width = max(map(len, token_ids))
        ids_NL = torch.tensor([[*row, *[0] * (width - len(row))] for row in token_ids])
        mask_NL = (torch.arange(width) < torch.tensor([[len(row)] for row in token_ids])).double()
        weights_NL1 = (mask_NL / mask_NL.sum(dim=1, keepdim=True)).unsqueeze(-1)
        return (self.module(ids_NL) * weights_NL1).sum(dim=1)


class HashEncoder:
    """Counts words by their hash and scales to length 1: texts that share words have similar vectors."""

    def __init__(self, *, dimension: int = 64, fingerprint: str = "hash") -> None:
        self.dimension = dimension
        self.fingerprint = fingerprint

    def encode(self, texts: Sequence[str], *, side: Side) -> NDArray[np.float32]:
        embeddings_ND = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                embeddings_ND[row, zlib.crc32(word.encode()) % self.dimension] += 1
        return embeddings_ND / np.maximum(np.linalg.norm(embeddings_ND, axis=1, keepdims=True), 1e-9)


class MovableAlias:
    """A registry with one alias: a ``Source`` of versions by number. ``named`` is what it names now."""

    def __init__(self, directories: Mapping[str, Path]) -> None:
        self.directories = directories
        self.named = "1"
        self.remembered: str | None = None

    def number(self, reference: str) -> str:
        return self.named

    def fetch(self, reference: str) -> Located:
        return Located(self.directories[self.named], self.named)

    def remember(self, reference: str, located: Located) -> None:
        self.remembered = located.number


def subset_of(is_member_P: Sequence[bool]) -> Subset:
    """The subset of those positions that are true."""
    return Subset.of(np.flatnonzero(is_member_P), len(is_member_P))
