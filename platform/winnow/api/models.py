"""What goes over the wire. Errors are in ``errors.py``; what is behind the application is in ``protocol.py``."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from winnow.answering.generating import Reason
from winnow.modeling.protocol import Side
from winnow.retrieval.config import ListName, Mode
from winnow.retrieval.reference import check_reference

# `fail_fast`: a million wrong items are one error, not a second of the event loop.
Texts = Annotated[list[str], Field(min_length=1, fail_fast=True)]
RawFilter = dict[str, str | list[str]]
"""Field to the value, or to the values of which one must match. All fields must match."""


class _Body(BaseModel):
    """A request. Unknown fields and numbers in quotes are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class SearchRequest(_Body):
    """Body of ``POST /v1/search``: exactly one of ``query`` and ``queries``."""

    query: str | None = None
    """One query."""

    queries: Texts | None = None
    """Several queries."""

    k: int = Field(default=10, ge=1)
    """Most passages per query."""

    mode: Mode = "dense"
    """Compare vectors, words (BM25), or unite both lists."""

    filter: RawFilter | None = None
    """Only passages whose fields match: ``document_id``, ``passage_id``, ``title`` or a key of their metadata."""

    with_text: bool = True
    """Whether hits carry the passage's text."""


class Hit(_Answer):
    """A passage that was found. What it does not have is left out."""

    passage_id: str
    score: float
    title: str
    text: str | None = None
    """Left out with ``with_text: false``."""
    document_id: str | None = None
    metadata: dict[str, str] | None = None


class SearchResponse(_Answer):
    """``results[i]`` belongs to ``queries[i]``, best first. All are from one retriever version."""

    results: list[list[Hit]]
    version: str
    words_cut: list[int] | None = None
    """How many different words of each query BM25 left out, the most frequent ones. Left out if there were none."""
    empty_lists: list[list[ListName]] | None = None
    """Of a hybrid search, the lists in which nothing was found for each query. Left out if there were none."""


class EmbeddingsRequest(_Body):
    """Body of ``POST /v1/embeddings``, as OpenAI's with two fields more, ``input_type`` and ``truncate``."""

    input: str | Texts
    """One text or several. Token ids are refused: they would be another tokenizer's."""

    model: str
    """``winnow``, or the version in ``/info``."""

    encoding_format: Literal["float", "base64"] = "float"
    """``base64`` is the vector's float32 values, little-endian."""

    dimensions: int | None = Field(default=None, ge=1)
    """The encoder's own, or nothing: vectors are never cut."""

    input_type: Side = "query"
    """How the encoder is to read the texts; its prefixes may differ."""

    truncate: bool = True
    """Whether a text that is too long for the encoder is cut; with ``false`` the request is answered 413 instead."""

    user: str | None = None
    """OpenAI's name of an end user. Taken, and neither used nor logged."""

    @field_validator("input", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if isinstance(value, list) and not all(isinstance(text, str) for text in value):
            raise ValueError("expected texts; token ids are not taken")
        return value


class Embedding(_Answer):
    """The vector of ``input[index]``."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(_Answer):
    """Tokens after each text was cut at the encoder's limit."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(_Answer):
    """As OpenAI's, with one field more, ``truncated``. ``model`` is the version whose encoder made the vectors."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage
    truncated: int
    """Texts whose end was left out, because they have more tokens than the encoder takes."""


class AnswerRequest(_Body):
    """Body of ``POST /v1/answer``."""

    query: str
    """The question."""

    k: int | None = Field(default=None, ge=1)
    """Most passages that the generator is shown; by default what the server is configured for."""

    mode: Mode = "dense"
    """As for a search."""

    filter: RawFilter | None = None
    """As for a search."""


class Citation(_Answer):
    """A passage that the answer names."""

    number: int
    passage_id: str


class ShownPassage(_Answer):
    """A passage as the generator saw it, under its ``number``."""

    number: int
    passage_id: str
    score: float
    title: str
    text: str
    is_cut: bool
    """Whether the end of the text was left out, because all passages together did not fit."""
    document_id: str | None = None
    metadata: dict[str, str] | None = None


class AnswerUsage(_Answer):
    """Tokens of the generator."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class AnswerResponse(_Answer):
    """An answer with the passages it cites. It is supported only if every citation is of a passage that was shown."""

    answer: str | None
    """``null`` if the model said that the passages do not answer, or said nothing."""
    is_supported: bool
    reason: Reason | None
    """Why it is not supported."""
    citations: list[Citation]
    """In the order of the answer, each once; empty unless it is supported."""
    passages: list[ShownPassage]
    left_out: int
    """Passages that were found and had no room in the prompt."""
    version: str
    model: str
    """The generator."""
    usage: AnswerUsage


class SwapRequest(_Body):
    """Body of ``POST /v1/admin/version``."""

    retriever: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(check_reference)]
    """A directory, ``model@alias`` or ``model/number``."""


class SwapResponse(_Answer):
    """All replicas serve ``version`` now."""

    version: str
    previous: str
    seconds: float
    replicas: int


class Health(_Answer):
    """The application answers. It says nothing about the search behind it."""

    status: Literal["ok"] = "ok"


class Ready(_Answer):
    """A search of the background worked ``age_s`` seconds ago."""

    status: Literal["ready"] = "ready"
    version: str | None
    age_s: float


class Limits(_Answer):
    """What a request may ask for."""

    max_queries: int
    max_k: int
    max_results: int
    max_query_chars: int
    max_text_chars: int
    max_body_bytes: int


class Info(_Answer):
    """What is being served, and within which limits."""

    version: str | None
    """Of the retriever; ``null`` while none is loaded."""
    winnow: str
    """Of the software."""
    notice: str | None
    """What an operator should know, such as that the registry could not be reached."""
    retriever: dict[str, Any]
    limits: Limits
