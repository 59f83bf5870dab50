"""What the HTTP application accepts, how it forms batches, and how it is deployed."""

import ipaddress
from typing import Literal, Self

from pydantic import Field, model_validator

from winnow.config import Config, InputPath, speed_knob
from winnow.digests import Verify
from winnow.engines.config import ServerConfig
from winnow.retrieval.config import FusionConfig
from winnow.retrieval.reference import RetrieverReference

EncoderRuntime = Literal["torch", "onnx", "onnx-int8"]
"""What computes query vectors: torch as it was trained, ONNX Runtime in float32, or with 8-bit integer weights."""


class ApiConfig(Config):
    """Limits of the HTTP application, and how it searches. A request beyond a limit is refused, never cut."""

    max_queries: int = Field(default=64, ge=1)
    """Most queries, or texts to embed, in one request."""

    max_k: int = Field(default=1000, ge=1)
    """Most passages that may be asked for per query."""

    max_results: int = Field(default=16_000, ge=1)
    """Most passages in one answer: k times the number of queries."""

    max_query_chars: int = Field(default=4000, ge=1)
    """Longest query, in characters. The encoder cuts at its own token limit, which is far shorter."""

    max_text_chars: int = Field(default=20_000, ge=1)
    """Longest text to embed, in characters."""

    max_body_bytes: int = Field(default=1_000_000, ge=100)
    """Largest request body."""

    request_timeout_s: float = speed_knob(30, gt=0)
    """How long a request may take, from its first byte to its answer; then it is answered 408."""

    max_pending: int = speed_knob(256, ge=1)
    """Requests that one replica works on at a time; the next one is answered 503 at once."""

    max_batch_tokens: int = speed_knob(4096, ge=16)
    """Most tokens, padding included, that are encoded together, from any number of requests."""

    cache_queries: int = speed_knob(10_000, ge=0)
    """Queries whose vectors are kept in memory; 0 keeps none."""

    encoder_runtime: EncoderRuntime = "torch"
    """What computes query vectors. Passages were encoded with torch in any case; what it costs is in docs/serve.md."""

    fusion: FusionConfig = FusionConfig()
    """How `mode: hybrid` unites the two ranked lists."""

    memory_map: bool = speed_knob(True)
    """Read the index from disk as it is needed, instead of all of it into memory at the start."""

    verify: Verify = speed_knob("changed")
    """Which files are hashed before they are loaded: those that this machine has not hashed as they are now, or
    ``always`` all, at every start and swap: only that finds what a disk has changed by itself."""

    device: Literal["cpu", "cuda"] = speed_knob("cpu")
    """Where vectors are compared. On ``cuda`` flat and IVF indexes are copied to the GPU."""

    encoder_device: Literal["cpu", "cuda"] = speed_knob("cpu")
    """Where queries are encoded. A replica reserves one GPU if this or ``device`` is ``cuda``, and uses none if not."""

    rate_per_minute: float | None = Field(default=None, gt=0)
    """Requests per minute that one key may make over all replicas, unless the key has its own limit."""

    log_requests: bool = speed_knob(False)
    """Write a line for each request into the log: id, route, status, milliseconds, key. Errors are in it anyway."""

    log_queries: bool = False
    """Write the text of queries into those lines, too. Off, because queries may hold what nobody should read."""

    generator: ServerConfig | None = None
    """The model behind ``POST /v1/answer``: any OpenAI-compatible server. Without it that path answers 404."""

    answer_max_tokens: int = Field(default=512, ge=16)
    """Longest generated answer, in tokens."""

    answer_max_reasoning_tokens: int = Field(default=0, ge=0)
    """Tokens on top of them for a generator that thinks before it answers; at 0 it is told not to."""

    answer_passages: int = Field(default=5, ge=1)
    """Passages shown to the generator unless the request says another k."""

    @property
    def num_gpus(self) -> int:
        """GPUs that one replica uses, and so has to reserve."""
        return 1 if "cuda" in (self.device, self.encoder_device) else 0

    @model_validator(mode="after")
    def _onnx_is_for_cpus(self) -> Self:
        if self.encoder_runtime != "torch" and self.encoder_device != "cpu":
            raise ValueError(
                f"encoder_runtime={self.encoder_runtime!r} is for CPUs; set encoder_device to cpu, or take torch"
            )
        return self

    @model_validator(mode="after")
    def _queries_are_logged_with_requests(self) -> Self:
        if self.log_queries and not self.log_requests:
            raise ValueError("log_queries=True has no effect without log_requests; set both, or neither")
        return self


class ServeConfig(ApiConfig):
    """The HTTP endpoint of a retriever version."""

    retriever: RetrieverReference | None = None
    """What to serve: a retriever version's directory, or ``model@alias`` / ``model/number`` in the MLflow registry;
    the index of this configuration if it is left out."""

    follow_registry_s: float = speed_knob(15, gt=0)
    """How often a registry alias is looked up; a moved alias swaps the version. Only for ``model@alias``."""

    keys: InputPath | None = None
    """File of API keys, made by ``winnow keys create``. Needed to listen beyond loopback, and for the admin paths."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""

    num_replicas: int | tuple[int, int] = speed_knob(1)
    """Copies of encoder and index, each in a process of its own; ``[fewest, most]`` follows the load."""

    target_ongoing_requests: float = speed_knob(8, gt=0)
    """With ``[fewest, most]`` replicas: requests in work per replica that the number of replicas aims at."""

    replica_cpus: float = speed_knob(1, gt=0)
    """CPUs that each replica reserves."""

    replica_threads: int = speed_knob(1, ge=1)
    """Threads of each replica that encode and search."""

    start_timeout_s: float = speed_knob(300, gt=0)
    """How long a replica may take to load and answer."""

    drain_s: float = speed_knob(10, ge=0)
    """How long a replica that is to stop may finish the requests it has."""

    ask: tuple[str, ...] = ()
    """Questions that `winnow run` asks over HTTP once the endpoint is up."""

    ask_k: int = Field(default=3, ge=1)
    """Passages shown per question of ``ask``."""

    @model_validator(mode="after")
    def _beyond_loopback_needs_keys(self) -> Self:
        if self.keys is None and not is_loopback(self.host):
            raise ValueError(
                f"host={self.host!r} can be reached from other machines, so `keys` must name a file of API keys; "
                f"make one with `winnow keys create`, or listen on 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _replicas_are_a_range(self) -> Self:
        fewest, most = self.replica_range
        if not 1 <= fewest <= most:
            raise ValueError(f"num_replicas={self.num_replicas!r}: expected a number from 1, or [fewest, most]")
        return self

    @property
    def url(self) -> str:
        """Where the endpoint answers."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def replica_range(self) -> tuple[int, int]:
        """Fewest and most replicas."""
        return (self.num_replicas, self.num_replicas) if isinstance(self.num_replicas, int) else self.num_replicas


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
