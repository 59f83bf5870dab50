"""Which passages a question is judged on."""

from typing import Literal, Self

from pydantic import Field, model_validator

from winnow.config import Config

Source = Literal["bm25", "dense"]


class PoolConfig(Config):
    """Ranked lists, united: the best of each in turn until the pool is full."""

    sources: tuple[Source, ...] = ("bm25", "dense")
    """The ranked lists to unite; ``dense`` is the run's encoder before training."""

    depth: int = Field(default=30, ge=1)
    """How deep each ranked list is read."""

    max_passages: int = Field(default=30, ge=1)
    """Most passages in a pool."""

    @model_validator(mode="after")
    def _sources_are_distinct(self) -> Self:
        if not self.sources or len(set(self.sources)) != len(self.sources):
            raise ValueError(f"pool.sources needs distinct names out of bm25 and dense, got {list(self.sources)}")
        return self
