"""What goes over the wire, and what the application needs from the search behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from winnow.records import ScoredPassage


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Results of one request, all from one retriever version: no answer mixes two."""

    version: str
    results: Sequence[Sequence[ScoredPassage]]
    """Per query, best first."""


class Searcher(Protocol):
    """The search behind the application: a Ray Serve replica, or anything else that can answer."""

    async def search(self, queries: Sequence[str], k: int) -> SearchAnswer:
        """At most ``k`` passages for each query."""

    def info(self) -> Mapping[str, Any]:
        """What is being served, as JSON values; ``version`` among them."""


class SearchRequest(BaseModel):
    """Body of ``POST /v1/search``. Unknown fields and numbers in quotes are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    queries: Annotated[list[str], Field(min_length=1)]
    k: int = Field(default=10, ge=1)


class Hit(BaseModel):
    """A passage that was found."""

    passage_id: str
    score: float
    title: str
    text: str


class SearchResponse(BaseModel):
    """``results[i]`` belongs to ``queries[i]``, best first."""

    results: list[list[Hit]]
    version: str


class Health(BaseModel):
    """The application answers. It says nothing about the search behind it."""

    status: Literal["ok"] = "ok"


class Limits(BaseModel):
    """What a request may ask for."""

    max_queries: int
    max_k: int
    max_query_chars: int
    max_body_bytes: int


class Info(BaseModel):
    """What is being served, and within which limits."""

    version: str
    retriever: dict[str, Any]
    limits: Limits


ErrorType = Literal[
    "invalid_json",
    "not_found",
    "method_not_allowed",
    "body_too_large",
    "invalid_request",
    "overloaded",
    "internal",
]


class Problem(BaseModel):
    """Why a request was not answered."""

    type: ErrorType
    message: str


class ErrorResponse(BaseModel):
    """Body of every answer that is not 200."""

    error: Problem
