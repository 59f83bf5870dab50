"""Settings of the dense encoder."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from winnow.config import Config, speed_knob
from winnow.models import ModelReference, check_revision, locate_model

Pooling = Literal["cls", "mean", "last"]
"""How token vectors become one vector: the first token's, their mean, the last token's."""

Precision = Literal["auto", "float32", "bfloat16"]
"""What ``encode`` computes in; vectors are float32 in any case."""

Towers = Literal["tied", "untied"]
"""Whether queries and passages are encoded by the same weights."""


class EncoderConfig(Config):
    """Which encoder to start from. What is left out is taken from the model directory itself."""

    model: ModelReference
    """A sentence-transformers directory, or a plain Transformers one (then give ``pooling`` and ``normalise``)."""

    revision: str | None = None
    """Branch, tag or commit of a hub model, which pins it."""

    pooling: Pooling | None = None
    """How token vectors become one vector: ``cls``, ``mean`` or ``last``."""

    normalise: bool | None = None
    """Scale vectors to length 1, so that the dot product is the cosine."""

    query_prefix: str | None = None
    """Put before every query, such as ``"query: "``."""

    passage_prefix: str | None = None
    """Put before every passage, such as ``"passage: "``."""

    query_prompt: str | None = None
    """The name of the model's own prompt that goes before every query, where it has several. A trained encoder
    keeps its text."""

    passage_prompt: str | None = None
    """The name of the model's own prompt that goes before every passage, where it has several."""

    query_max_tokens: int | None = Field(None, ge=4)
    """Queries are cut to this many tokens, prefix and special tokens included."""

    passage_max_tokens: int | None = Field(None, ge=4)
    """Passages are cut to this many tokens, prefix and special tokens included."""

    precision: Precision = "auto"
    """What ``encode`` computes in. ``auto`` is bfloat16 where the processor has it: about 3 times as fast on a CPU, and
    the cosine with the float32 vector stays above .9999 (all-MiniLM-L6-v2). So a query may be computed in another
    precision than the passages, on a machine of another kind; passages in two are refused. Training has its own
    setting."""

    batch_tokens: int = speed_knob(4096, ge=1)
    """Most tokens in one batch of ``encode``, padding included. Some thousands on a CPU, tens of thousands on a GPU."""

    def at(self, directory: Path) -> Self:
        """The same settings for the encoder in ``directory``, such as the trained one."""
        # Names and revision are those of the model that this one came from; what they stood for is in its own files.
        others = {"revision": None, "query_prompt": None, "passage_prompt": None}
        return self.model_copy(update={"model": str(directory.resolve()), **others})

    def locate(self) -> Path:
        """The model's directory. Raises ``ConfigError``."""
        return locate_model(self.model, revision=self.revision)

    @model_validator(mode="after")
    def _prefix_or_prompt(self) -> Self:
        for side in ("query", "passage"):
            if getattr(self, f"{side}_prefix") is not None and getattr(self, f"{side}_prompt") is not None:
                raise ValueError(f"encoder.{side}_prefix and encoder.{side}_prompt are both given; keep one of them")
        return self

    @model_validator(mode="after")
    def _only_a_hub_has_revisions(self) -> Self:
        check_revision(self.model, self.revision)
        return self


class LoraConfig(Config):
    """Low-rank adapters (arXiv 2106.09685): trained in place of the weights, and merged into them when saved."""

    rank: int = Field(16, ge=1)
    """Dimension that each adapter passes through; trained numbers grow with it."""

    alpha: float = Field(32, gt=0)
    """An adapter's output is scaled by ``alpha / rank``."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an adapter's inputs dropped in training; takes effect with ``train.use_dropout``."""

    targets: tuple[str, ...] | None = Field(None, min_length=1)
    """Last parts of the names of the layers to adapt, such as ``query`` and ``value``; by default all linear layers."""
