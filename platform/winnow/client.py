"""A small client for applications that search a served retriever. Needs httpx, neither torch nor ray.

>>> with WinnowClient("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     client.search(["how do I find out when a file was last changed?"], k=3)
"""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from winnow.errors import WinnowError
from winnow.records import ScoredPassage


class ServiceError(WinnowError):
    """The service could not be reached, or it refused the request; ``type`` is its error type, if it gave one."""

    def __init__(self, message: str, *, status: int | None = None, type: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.type = type


class WinnowClient:
    """Searches a served retriever. Safe to share between threads; close it, or use it in a ``with`` block.

    A refused connection and a 503 are tried again ``retries`` times, with a growing pause or the one the service
    asks for. Every other error is raised at once: it would come back the same.
    """

    def __init__(self, base_url: str, *, timeout_s: float = 30, retries: int = 4, pause_s: float = 0.2) -> None:
        # Proxy settings of the environment would send loopback traffic elsewhere.
        self._http = httpx.Client(base_url=base_url, timeout=timeout_s, trust_env=False)
        self._base_url = base_url
        self._retries = retries
        self._pause_s = pause_s

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[ScoredPassage]]:
        """At most ``k`` passages for each query, best first. Raises ``ServiceError``."""
        body = {"queries": list(queries), "k": k}
        reply = self._ask(lambda: self._http.post("/v1/search", json=body))
        return [[ScoredPassage(**hit) for hit in hits] for hits in reply["results"]]

    def health(self) -> bool:
        """Whether the service answers now; nothing is tried again."""
        try:
            return self._http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def info(self) -> dict[str, Any]:
        """What is being served (``version``, ``retriever``) and within which ``limits``. Raises ``ServiceError``."""
        return self._ask(lambda: self._http.get("/info"))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, send: Callable[[], httpx.Response]) -> dict[str, Any]:
        for attempt in range(self._retries + 1):
            is_last = attempt == self._retries
            try:
                reply = send()
            except httpx.TransportError as error:
                if is_last or not isinstance(error, httpx.ConnectError):
                    raise self._unreachable(error) from error
                time.sleep(self._pause_s * 2**attempt)
                continue
            if reply.status_code != 503 or is_last:
                return _read(reply)
            time.sleep(_wanted_pause(reply) or self._pause_s * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, error: httpx.TransportError) -> ServiceError:
        return ServiceError(
            f"no answer from {self._base_url} ({type(error).__name__}: {error}); "
            f"start it with `winnow serve --config ...`, or correct the address"
        )


def _read(reply: httpx.Response) -> dict[str, Any]:
    if reply.status_code == 200:
        return reply.json()
    try:
        problem = reply.json()["error"]
        kind, message = problem["type"], problem["message"]
    except (ValueError, KeyError, TypeError):
        # Not our application: a proxy in between, or another service on that port.
        kind, message = None, reply.text[:200]
    raise ServiceError(f"{reply.url} answered {reply.status_code}: {message}", status=reply.status_code, type=kind)


def _wanted_pause(reply: httpx.Response) -> float | None:
    wanted = reply.headers.get("Retry-After", "")
    return min(float(wanted), 30.0) if wanted.isdigit() else None
