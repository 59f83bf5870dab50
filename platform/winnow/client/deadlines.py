"""One deadline for all that is sent and received in a call, for the client that blocks.

httpx limits each read by itself, so an answer that drips never ends. Here every read and write of a connection gets
what is left of the whole. ``asyncio.timeout`` does that for the other client.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

_WRITTEN_TOGETHER = 65_536
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def within(timeout_s: float) -> Iterator[None]:
    """What the connections of ``client_with_deadlines`` do in this block takes no longer, altogether."""
    token = _deadline.set(time.monotonic() + timeout_s)
    try:
        yield
    finally:
        _deadline.reset(token)


def client_with_deadlines(
    *, base_url: str, headers: dict[str, str], trust_env: bool, transport: httpx.BaseTransport | None
) -> httpx.Client:
    """httpx's client, which heeds ``within`` unless ``transport`` is another than httpx's."""
    transport = httpx.HTTPTransport(trust_env=trust_env) if transport is None else transport
    if isinstance(transport, httpx.HTTPTransport):
        # httpx has no setting for what its pool connects with.
        pool = transport._pool
        pool._network_backend = _Backend(pool._network_backend)
    return httpx.Client(base_url=base_url, headers=headers, trust_env=trust_env, transport=transport)


def _left(timeout_s: float | None, too_late: type[httpcore.TimeoutException]) -> float | None:
    deadline = _deadline.get()
    if deadline is None:
        return timeout_s
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise too_late("timed out")
    return left_s if timeout_s is None else min(left_s, timeout_s)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_unix_socket(path, timeout, socket_options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITTEN_TOGETHER):
            part = buffer[start : start + _WRITTEN_TOGETHER]
            self._inner.write(part, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
