"""What the HTTP application accepts, and how it is deployed."""

import ipaddress
from typing import Self

from pydantic import Field, field_validator, model_validator

from winnow.config import Config, InputPath, speed_knob


class ApiConfig(Config):
    """Limits of the HTTP application, and how it forms batches. A request beyond a limit is refused, never cut."""

    max_queries: int = Field(default=64, ge=1)
    """Most queries in one request."""

    max_k: int = Field(default=1000, ge=1)
    """Most passages that may be asked for per query."""

    max_query_chars: int = Field(default=4000, ge=1)
    """Longest query, in characters. The encoder cuts at its own token limit, which is far shorter."""

    max_body_bytes: int = Field(default=1_000_000, ge=100)
    """Largest request body."""

    max_pending: int = speed_knob(64, ge=1)
    """Search requests that one replica works on at a time; the next one is answered 503 at once."""

    max_batch_queries: int = speed_knob(64, ge=1)
    """Most queries that are encoded together, from any number of requests."""

    batch_wait_ms: float = speed_knob(0, ge=0)
    """How long the first request of a batch waits for others; 0 takes what has arrived meanwhile."""

    @model_validator(mode="after")
    def _a_request_fits_a_batch(self) -> Self:
        if self.max_queries > self.max_batch_queries:
            raise ValueError(
                f"max_queries={self.max_queries} is more than max_batch_queries={self.max_batch_queries}; "
                f"a request is encoded in one batch, so raise max_batch_queries or lower max_queries"
            )
        return self


class ServeConfig(ApiConfig):
    """The HTTP endpoint of a retriever version."""

    retriever: InputPath | None = None
    """Directory of a retriever version; the index of this configuration if it is left out."""

    host: str = "127.0.0.1"
    """Address to listen on. Only loopback is accepted: the endpoint asks for no key."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""

    num_replicas: int = speed_knob(1, ge=1)
    """Copies of encoder and index, each in a process of its own."""

    replica_cpus: float = speed_knob(1, gt=0)
    """CPUs that each replica reserves."""

    start_timeout_s: float = speed_knob(300, gt=0)
    """How long a replica may take to load and answer."""

    ask: tuple[str, ...] = ()
    """Questions that `winnow run` asks over HTTP once the endpoint is up."""

    ask_k: int = Field(default=3, ge=1)
    """Passages shown per question of ``ask``."""

    @field_validator("host")
    @classmethod
    def _host_is_loopback(cls, host: str) -> str:
        if not _is_loopback(host):
            raise ValueError(
                "expected a loopback address such as 127.0.0.1, because whoever reaches the port may search; "
                "put a proxy that checks who asks in front of it"
            )
        return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
