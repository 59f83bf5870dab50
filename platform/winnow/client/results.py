"""What the client returns and raises."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from winnow.errors import WinnowError
from winnow.records import ScoredPassage

Item = TypeVar("Item")


class ServiceError(WinnowError):
    """The service could not be reached, or it refused the request.

    ``status`` is the HTTP status, ``type`` the service's own name for the error, ``request_id`` what its log calls
    the request; each is None where there was none.
    """

    def __init__(
        self, message: str, *, status: int | None = None, type: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.request_id = request_id


class Versioned(list[Item]):
    """A list that names the retriever version it came from."""

    def __init__(self, items: Iterable[Item], version: str) -> None:
        super().__init__(items)
        self.version = version


class Hits(Versioned[Item]):
    """What was found. ``words_cut`` is per query how many of its words a search by words left out; empty if none.

    ``empty_lists`` are per query of a hybrid search the lists (``dense``, ``bm25``) that found nothing; empty if none.
    """

    def __init__(
        self,
        items: Iterable[Item],
        version: str,
        *,
        words_cut: Iterable[int] = (),
        empty_lists: Iterable[Iterable[str]] = (),
    ) -> None:
        super().__init__(items, version)
        self.words_cut = tuple(words_cut)
        self.empty_lists = tuple(map(tuple, empty_lists))


class Vectors(Versioned[list[float]]):
    """Vectors; ``truncated`` of them are of texts that were too long, without their ends."""

    def __init__(self, items: Iterable[list[float]], version: str, *, truncated: int = 0) -> None:
        super().__init__(items, version)
        self.truncated = truncated


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer rests on; ``[number]`` stands for it in the answer's text."""

    number: int
    passage_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer with what it rests on."""

    answer: str | None
    """None where the passages do not answer the question."""
    is_supported: bool
    reason: str | None
    """Why it is not supported."""
    citations: tuple[Citation, ...]
    passages: tuple[ScoredPassage, ...]
    """What the generator was shown; ``[1]`` is the first."""
    left_out: int
    """Passages found that did not fit into the prompt."""
    version: str
    model: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    """Tokens, as the generator counted them."""


@dataclass(frozen=True, slots=True)
class Swap:
    """A change of the retriever version that is done, on every replica."""

    version: str
    previous: str
    seconds: float
    replicas: int = 1
