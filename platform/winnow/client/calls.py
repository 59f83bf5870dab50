"""The service's requests as values: what to send, how to read the answer, and when to send it again.

Every public function here is a method of both clients.
"""

import json
import struct
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Literal, TypeVar

from winnow.client.results import Answer, Citation, Hits, Swap, Vectors
from winnow.errors import DataError
from winnow.records import ScoredPassage

Result = TypeVar("Result")
Mode = Literal["dense", "bm25", "hybrid"]
Filter = Mapping[str, str | Sequence[str]]
"""Field of the metadata (or ``document_id``, ``passage_id``, ``title``) to the accepted values."""

_HIT_FIELDS = frozenset(field.name for field in fields(ScoredPassage))


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One request. ``read`` turns the JSON value of its answer into the result."""

    method: Literal["GET", "POST"]
    path: str
    read: Callable[[Any], Result]
    content: bytes | None = None
    repeat: Literal["always", "unsent", "never"] = "always"
    """``unsent``: only if the service cannot have seen it."""
    on_failure: Result | None = None
    """Returned instead of raising ``ServiceError``."""


def search(
    queries: Sequence[str],
    k: int = 10,
    *,
    mode: Mode = "dense",
    filter: Filter | None = None,
    with_text: bool = True,
) -> Call[Hits[list[ScoredPassage]]]:
    """At most ``k`` passages for each query, best first. Raises ``ServiceError``."""
    body = {"queries": _texts(queries), "k": k, "with_text": with_text, **_selection(mode, filter)}
    return _post("/v1/search", body, _read_results)


def search_one(
    query: str, k: int = 10, *, mode: Mode = "dense", filter: Filter | None = None, with_text: bool = True
) -> Call[Hits[ScoredPassage]]:
    """At most ``k`` passages for ``query``, best first. Raises ``ServiceError``."""
    body = {"queries": [query], "k": k, "with_text": with_text, **_selection(mode, filter)}
    return _post("/v1/search", body, _read_one)


def embed(texts: Sequence[str], *, side: Literal["query", "passage"] = "query", truncate: bool = True) -> Call[Vectors]:
    """A vector for each text, in their order. Raises ``ServiceError``; without ``truncate`` for a long text, too."""
    # A quarter of the bytes that decimal numbers take, and exact.
    body = {"input": _texts(texts), "model": "winnow", "input_type": side, "encoding_format": "base64"}
    return _post("/v1/embeddings", body if truncate else {**body, "truncate": False}, _read_vectors)


def answer(query: str, k: int | None = None, *, mode: Mode = "dense", filter: Filter | None = None) -> Call[Answer]:
    """An answer that cites passages, or none where they do not support one. Raises ``ServiceError``."""
    size = {} if k is None else {"k": k}
    return _post("/v1/answer", {"query": query, **size, **_selection(mode, filter)}, _read_answer)


def health() -> Call[bool]:
    """Whether the service answers now; nothing is tried again."""
    return Call("GET", "/health", lambda _: True, repeat="never", on_failure=False)


def ready() -> Call[str]:
    """The version that the service could search just now, empty if it could not; nothing is tried again."""
    return Call("GET", "/ready", lambda body: str(body["version"]), repeat="never", on_failure="")


def info() -> Call[dict[str, Any]]:
    """What is being served (``version``, ``retriever``) and within which ``limits``. Raises ``ServiceError``."""
    return Call("GET", "/info", dict)


def versions() -> Call[dict[str, Any]]:
    """The version that is wanted and the one each replica serves; needs an admin key. Raises ``ServiceError``."""
    return Call("GET", "/v1/admin/version", dict)


def swap(reference: str) -> Call[Swap]:
    """``reference`` is served once this returns, on every replica; needs an admin key. Raises ``ServiceError``.

    It is a directory or ``model@alias`` or ``model/number``, as the service sees it. Never sent twice: if the
    connection breaks, ``versions`` tells what became of it.
    """
    return _post("/v1/admin/version", {"retriever": reference}, _read_swap, repeat="unsent")


def _post(
    path: str,
    body: Mapping[str, Any],
    read: Callable[[Any], Result],
    *,
    repeat: Literal["always", "unsent"] = "always",
) -> Call[Result]:
    try:
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"text holds half a surrogate pair, {error.object[error.start]!r}, which UTF-8 cannot express; "
            f"decode it with errors='replace' where it is read"
        ) from None
    return Call("POST", path, read, content, repeat)


def _texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError(f"expected a list of texts, got the text {texts[:40]!r}; put it into a list")
    return list(texts)


def _selection(mode: Mode, filter: Filter | None) -> dict[str, Any]:
    accepted = {} if filter is None else {"filter": {name: _values(wanted) for name, wanted in filter.items()}}
    return {"mode": mode, **accepted}


def _values(wanted: str | Sequence[str]) -> str | list[str]:
    return wanted if isinstance(wanted, str) else list(wanted)


def _read_results(reply: Any) -> Hits[list[ScoredPassage]]:
    results = ([_read_hit(hit) for hit in hits] for hits in reply["results"])
    notes = {name: reply.get(name) or () for name in ("words_cut", "empty_lists")}
    return Hits(results, reply["version"], **notes)


def _read_one(reply: Any) -> Hits[ScoredPassage]:
    results = _read_results(reply)
    return Hits(results[0], results.version, words_cut=results.words_cut, empty_lists=results.empty_lists)


def _read_hit(hit: Mapping[str, Any]) -> ScoredPassage:
    # A newer service may say more of a passage than this client knows.
    return ScoredPassage(**{name: value for name, value in hit.items() if name in _HIT_FIELDS})


def _read_vectors(reply: Any) -> Vectors:
    rows = sorted(reply["data"], key=lambda row: row["index"])
    return Vectors(
        (_read_vector(row["embedding"]) for row in rows), reply["model"], truncated=reply.get("truncated", 0)
    )


def _read_vector(encoded: str) -> list[float]:
    """Little-endian float32 numbers."""
    content = b64decode(encoded, validate=True)
    return list(struct.unpack(f"<{len(content) // 4}f", content))


def _read_answer(reply: Any) -> Answer:
    return Answer(
        answer=reply["answer"],
        is_supported=reply["is_supported"],
        reason=reply.get("reason"),
        citations=tuple(Citation(cited["number"], cited["passage_id"]) for cited in reply["citations"]),
        passages=tuple(_read_hit(hit) for hit in reply["passages"]),
        left_out=reply.get("left_out", 0),
        version=reply["version"],
        model=reply.get("model"),
        usage=reply.get("usage") or {},
    )


def _read_swap(reply: Any) -> Swap:
    return Swap(reply["version"], reply["previous"], reply["seconds"], reply.get("replicas", 1))
