"""What the HTTP application needs from behind it. Real ones: ``winnow/serving``, and ``winnow/cluster`` on Ray Serve.

Legend: N texts, D dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from winnow.api.keys import KeyRing
from winnow.errors import WinnowError
from winnow.modeling.protocol import Side
from winnow.records import ScoredPassage
from winnow.retrieval.config import ListName, Mode
from winnow.retrieval.filtering import Filter

FRESH_S = 5.0
"""A background search older than this says nothing of now."""


class SwapRefusedError(WinnowError):
    """The wanted version cannot be served; what was served before still is."""


class SwapBusyError(WinnowError):
    """Another swap is going on."""


class TextTooLongError(WinnowError):
    """A text has more tokens than the encoder takes, and must not be cut."""


class NotReadyError(WinnowError):
    """There is no version to search yet."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search; the same for all queries of a request."""

    k: int = 10
    mode: Mode = "dense"
    filter: Filter | None = None
    with_text: bool = True


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Results of one request, all from one retriever version: no answer mixes two."""

    version: str
    results: Sequence[Sequence[ScoredPassage]]
    """Per query, best first."""
    words_cut: Sequence[int] = ()
    """Per query, how many different words BM25 left out; empty if it left out none."""
    empty_lists: Sequence[Sequence[ListName]] = ()
    """Per query of a hybrid search, the lists in which nothing was found; empty if there was none."""


@dataclass(frozen=True, slots=True)
class EmbeddingAnswer:
    """Vectors of one request, all from one encoder."""

    version: str
    embeddings_ND: NDArray[np.float32]
    num_tokens: int
    num_truncated: int = 0
    """Texts that were cut at the encoder's limit."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a search of the background just worked."""

    is_ready: bool
    detail: str
    version: str | None = None
    age_s: float | None = None
    """Seconds since that search."""


class Searcher(Protocol):
    """The search behind the application."""

    async def search(self, queries: Sequence[str], options: SearchOptions) -> SearchAnswer:
        """At most ``options.k`` passages for each query.

        Raises ``NotReadyError``; ``DataError`` for a mode or filter field that this version does not have.
        """

    async def embed(self, texts: Sequence[str], side: Side, *, truncate: bool = True) -> EmbeddingAnswer:
        """Vectors in the order of ``texts``.

        Raises ``NotReadyError``; without ``truncate``, ``TextTooLongError`` where a text would be cut.
        """

    def readiness(self) -> Readiness:
        """The outcome of the last background search; cheap."""

    def info(self) -> Mapping[str, Any]:
        """What is being served, as JSON values; ``version`` among them."""


@dataclass(frozen=True, slots=True)
class SwapOutcome:
    """A swap that was carried out, or was not needed."""

    version: str
    previous: str
    seconds: float
    replicas: int = field(default=1)


class Versions(Protocol):
    """Which version is wanted, for all replicas together."""

    async def swap(self, reference: str) -> SwapOutcome:
        """Serve ``reference`` (a directory, ``model@alias`` or ``model/number``) on every replica, then return.

        Raises ``SwapRefusedError``, ``SwapBusyError``.
        """

    async def describe(self) -> Mapping[str, Any]:
        """What is wanted and what each replica serves, as JSON values."""


class Access(Protocol):
    """Who may ask, and how often, over all replicas."""

    @property
    def keys(self) -> KeyRing | None:
        """The keys in force now; ``None`` if none are asked for."""

    async def take(self, key_id: str, per_minute: float) -> float:
        """0 if this key may make one more request now, else the seconds after which it may."""
