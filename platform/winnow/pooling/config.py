"""Which passages a question is judged on."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, model_validator

from winnow.config import Config, InputPath
from winnow.modeling.config import EncoderConfig

_NAME = r"^[\w.-]+$"
_RESERVED = {"union", "pool"}
"""Rows of the recall table beside the sources."""


class Bm25SourceConfig(Config):
    """BM25 over the run's corpus."""

    kind: Literal["bm25"]
    """How the list is made."""

    name: str = Field(default="bm25", pattern=_NAME)
    """How findings and tables call it."""

    depth: int = Field(default=30, ge=1)
    """How deep the list is read."""

    max_passages: int | None = Field(default=None, ge=1)
    """Most passages of a pool that this list brings in; by default no cap. What another list brought does not count."""


class DenseSourceConfig(Config):
    """Exact search with an encoder's embeddings."""

    kind: Literal["dense"]
    """How the list is made."""

    name: str = Field(default="dense", pattern=_NAME)
    """How findings and tables call it."""

    encoder: EncoderConfig | None = None
    """By default the run's encoder, before training."""

    depth: int = Field(default=30, ge=1)
    """How deep the list is read."""

    max_passages: int | None = Field(default=None, ge=1)
    """Most passages of a pool that this list brings in; by default no cap. What another list brought does not count."""


class TrecRunSourceConfig(Config):
    """Ranked lists that another program made, in a run file."""

    kind: Literal["trec_run"]
    """How the list is made."""

    name: str = Field(default="trec_run", pattern=_NAME)
    """How findings and tables call it."""

    path: InputPath
    """Lines of ``query-id Q0 passage-id rank score tag``, or MS MARCO's ``query-id passage-id rank`` with or without a
    score; the lines of a query stand together."""

    depth: int = Field(default=30, ge=1)
    """How deep each list is read, in the order of the file's ranks."""

    max_passages: int | None = Field(default=None, ge=1)
    """Most passages of a pool that this list brings in; by default no cap. What another list brought does not count."""


SourceConfig = Annotated[Bm25SourceConfig | DenseSourceConfig | TrecRunSourceConfig, Discriminator("kind")]


class PoolConfig(Config):
    """Ranked lists, united: the best of each in turn until the pool is full."""

    sources: tuple[SourceConfig, ...] = (Bm25SourceConfig(kind="bm25"), DenseSourceConfig(kind="dense"))
    """The ranked lists to unite, any number of each kind; names must differ."""

    max_passages: int = Field(default=30, ge=1)
    """Most passages in a pool."""

    add_human_positives: bool = False
    """Put what ``data.train.qrels`` calls relevant into the pool where the lists missed it, in place of the last
    passages. Human positives are marked in any case; a judge never sees the mark."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [source.name for source in self.sources]
        if not names:
            raise ValueError("pool.sources is empty; name one source or more")
        taken = sorted({name for name in names if names.count(name) > 1 or name in _RESERVED})
        if taken:
            raise ValueError(f"pool.sources: every source needs a `name` of its own; {taken} are taken or repeated")
        return self
