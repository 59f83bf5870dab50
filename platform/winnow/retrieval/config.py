"""Settings of the vector index."""

from typing import Self

from pydantic import Field, model_validator

from winnow.config import Config, speed_knob


class IndexConfig(Config):
    """How the vectors of a retriever version are searched. Scores are dot products."""

    factory: str = Field(default="Flat", pattern=r"^(Flat|HNSW\d+)$")
    """``Flat`` compares with every passage and is exact; ``HNSW32`` walks a graph with 32 links per passage."""

    ef_construction: int = Field(default=200, ge=1)
    """HNSW: how many neighbours are considered when a passage is added. Higher is slower to build and more exact."""

    ef_search: int = Field(default=128, ge=1)
    """HNSW: how many passages are considered in a search. Higher is slower and more exact; at least k."""

    build_threads: int = speed_knob(1, ge=1)
    """Threads that build the index. With more than one, an HNSW graph differs a little from build to build."""

    @model_validator(mode="after")
    def _graph_settings_need_a_graph(self) -> Self:
        unused = {"ef_construction", "ef_search"} & self.model_fields_set
        if self.factory == "Flat" and unused:
            raise ValueError(f"{', '.join(sorted(unused))} has no effect with Flat; remove it or pick HNSW32")
        return self
