"""Settings of the vector index, ways to search, and what unites results with those of BM25."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from winnow.config import Config, speed_knob
from winnow.retrieval.factory import parse_factory

Language = Literal[
    "english", "none", "arabic", "armenian", "basque", "catalan", "czech", "danish", "dutch", "esperanto", "estonian",
    "finnish", "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian",
    "nepali", "norwegian", "persian", "polish", "portuguese", "romanian", "russian", "serbian", "sesotho", "spanish",
    "swedish", "tamil", "turkish", "yiddish",
]  # fmt: skip
"""Whose rules BM25 stems words by: those of Snowball, or ``none``."""

Mode = Literal["dense", "bm25", "hybrid"]
"""What ranks: the encoder's vectors, BM25, or both lists united."""

ListName = Literal["dense", "bm25"]
"""One of the two lists that a hybrid search unites."""


class FusionConfig(Config):
    """How the ranked lists of BM25 and of the encoder become one."""

    method: Literal["reciprocal_rank", "weighted"] = "reciprocal_rank"
    """``reciprocal_rank`` adds 1 / (constant + rank); ``weighted`` adds scores, each list scaled to 0..1."""

    rank_constant: int = Field(default=60, ge=1)
    """``reciprocal_rank``: the higher, the less the first ranks stand out."""

    dense_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the encoder's list; BM25's has the rest."""

    depth: int = Field(default=100, ge=1)
    """Results of each list that are united; at least k."""


class IndexConfig(Config):
    """How the vectors of a retriever version are searched. Scores are dot products."""

    factory: str = "Flat"
    """The kind of index, in FAISS's words. ``Flat`` compares with every passage and is exact; ``HNSW32`` walks a graph
    with 32 links per passage; ``IVF1024,Flat`` looks through the nearest of 1024 lists. ``SQ8``, ``SQfp16`` and
    ``PQ48`` keep 1 byte per dimension, 2 bytes per dimension and 48 bytes per passage, alone or in ``HNSW32,SQ8`` and
    ``IVF1024,PQ48``; ``OPQ48,`` in front of one with PQ rotates the vectors first. docs/index.md compares them."""

    ef_construction: int = Field(default=200, ge=1)
    """HNSW: how many neighbours are considered when a passage is added. Higher is slower to build and more exact."""

    ef_search: int = Field(default=128, ge=1)
    """HNSW: how many passages are considered in a search. Higher is slower and more exact; at least k."""

    num_probes: int = Field(default=16, ge=1)
    """IVF: how many lists a search looks through. Higher is slower and more exact; at most all."""

    train_vectors: int = Field(default=100_000, ge=1)
    """IVF, PQ and SQ4 to SQ8: how many vectors, drawn with the run's seed, lists and codes are learned from."""

    rescore: int | None = Field(default=None, ge=1)
    """SQ and PQ: compare ``rescore`` x k results again with exact vectors, which are stored beside the index and read
    from disk as needed. More exact; costs the disk space of ``Flat``."""

    shard_passages: int = Field(default=1_000_000, ge=1)
    """Most passages in one file of the index; a build holds one file in memory. Results do not depend on it, except
    that each graph of HNSW is walked on its own."""

    bm25: bool = True
    """Store an index of words as well, for the modes ``bm25`` and ``hybrid``."""

    build_threads: int = speed_knob(1, ge=1)
    """Threads that build the index. With more than one, an HNSW graph differs a little from build to build."""

    @field_validator("factory")
    @classmethod
    def _factory_is_known(cls, factory: str) -> str:
        parse_factory(factory)
        return factory

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        parsed = parse_factory(self.factory)
        effective = {
            "ef_construction": parsed.kind == "hnsw",
            "ef_search": parsed.kind == "hnsw",
            "num_probes": parsed.kind == "ivf",
            "train_vectors": parsed.needs_training,
            "rescore": parsed.is_quantised,
        }
        unused = [name for name, has_effect in effective.items() if name in self.model_fields_set and not has_effect]
        if unused and not (unused == ["rescore"] and self.rescore is None):
            raise ValueError(
                f"{', '.join(unused)} has no effect with {self.factory}; remove it or pick another factory"
            )
        return self

    @model_validator(mode="after")
    def _probes_are_at_most_the_lists(self) -> Self:
        lists = parse_factory(self.factory).num_lists
        if lists and "num_probes" in self.model_fields_set and self.num_probes > lists:
            raise ValueError(f"num_probes={self.num_probes} is more than the {lists} lists of {self.factory}; lower it")
        return self
