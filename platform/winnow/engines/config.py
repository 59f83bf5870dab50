"""Which language model judges, and what it may use of a machine."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, field_validator

from winnow.config import Config, speed_knob
from winnow.models import ModelReference


class VllmConfig(Config):
    """vLLM inside the actor. The defaults suit a small model on a CPU; on a GPU set ``gpus``, and larger steps."""

    kind: Literal["vllm"]
    """The library that runs the model."""

    model: ModelReference
    """A causal language model: a directory, ``package:name/path``, a hub id, or a GGUF file (converted once)."""

    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Arithmetic of the model. Scores of half precisions differ in the last digits with what shares a batch."""

    quantisation: str | None = None
    """How the checkpoint is quantised, in vLLM's words (``awq``, ``gptq``, ``fp8``); by default as it says itself."""

    max_tokens: int = Field(default=2048, ge=16)
    """Longest prompt with its reply. A query that needs a longer one gets the status ``too_long``."""

    gpus: int = speed_knob(0, ge=0)
    """GPUs of each engine (its tensor parallel size); 0 runs it on the CPU."""

    cpus: int = speed_knob(1, ge=1)
    """CPUs that each engine reserves. One less than the machine has leaves room for reading."""

    threads: int = speed_knob(2, ge=1)
    """Threads of each engine on a CPU."""

    cache_gb: int = speed_knob(1, ge=1)
    """Memory for attention keys and values on a CPU."""

    gpu_memory_share: float = speed_knob(0.9, gt=0, le=1)
    """Share of a GPU's memory that the engine takes."""

    max_sequences: int = speed_knob(64, ge=1)
    """Most prompts in one step of the engine."""

    max_batched_tokens: int = speed_knob(1024, ge=16)
    """Most tokens in one step of the engine. On a CPU small steps stay in the caches."""


class TransformersConfig(Config):
    """Plain transformers inside the actor: likelihoods on a CPU, and a fallback where vLLM does not run."""

    kind: Literal["transformers"]
    """The library that runs the model."""

    model: ModelReference
    """A causal language model: a directory, ``package:name/path``, a hub id, or a GGUF file (converted once)."""

    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Arithmetic of the model."""

    max_tokens: int = Field(default=2048, ge=16)
    """Longest prompt with its reply. A query that needs a longer one gets the status ``too_long``."""

    gpus: int = speed_knob(0, ge=0, le=1)
    """1 runs it on a GPU, 0 on the CPU."""

    cpus: int = speed_knob(1, ge=1)
    """CPUs that each engine reserves. One less than the machine has leaves room for reading."""

    threads: int = speed_knob(2, ge=1)
    """Threads of each engine on a CPU."""

    max_batched_tokens: int = speed_knob(1024, ge=16)
    """Most tokens in one forward pass, padding included."""


class ServerConfig(Config):
    """A model behind an OpenAI-compatible HTTP server."""

    kind: Literal["server"]
    """Nothing is loaded here."""

    model: str
    """The model's name at the server."""

    base_url: str = speed_knob()
    """Where the server is, up to ``/v1``."""

    api_key_variable: str | None = speed_knob(None)
    """The environment variable that holds the key; the key itself never stands in a file."""

    max_tokens: int = Field(default=4096, ge=16)
    """Longest prompt with its reply that the server takes."""

    requests_in_flight: int = speed_knob(32, ge=1)
    """Most requests at a time, of each actor."""

    requests_per_minute: int | None = speed_knob(None, ge=1)
    """Most requests in a minute, of each actor."""

    timeout_s: float = speed_knob(120.0, gt=0)
    """Longest wait for one reply."""

    max_retries: int = speed_knob(5, ge=0)
    """How often a request is repeated, with growing pauses, after a connection error, a timeout, 429 or 5xx."""

    cpus: float = speed_knob(0.5, gt=0)
    """CPUs that each actor reserves."""

    @field_validator("base_url")
    @classmethod
    def _holds_no_secret(cls, base_url: str) -> str:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http:// or https:// and a host, such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("holds a user, a password or a query; name the key's variable in api_key_variable")
        return base_url

    @property
    def gpus(self) -> int:
        """None here: the server has them."""
        return 0


EngineConfig = Annotated[VllmConfig | TransformersConfig | ServerConfig, Discriminator("kind")]


def engine_environment(config: EngineConfig) -> dict[str, str]:
    """The environment that the process of an engine must start with.

    vLLM reads its settings when it is imported, malloc and OpenMP theirs when the process starts.
    """
    shared = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in-process: no child that could outlive the actor
        # An actor's output reaches the user's console: errors only.
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if config.kind == "server":
        return shared
    if config.model.startswith(("package:", ".", "/", "~")):
        shared["HF_HUB_OFFLINE"] = "1"
    return shared if config.gpus else shared | _cpu_environment(config)


def _cpu_environment(config: VllmConfig | TransformersConfig) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(config.threads),
        "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait take the cores from reading and writing
        "TORCH_COMPILE_DISABLE": "1",  # compiling takes longer than a small run
        # The vocabulary head allocates tens of MB per prompt. Without these three a third of the CPU time goes into
        # page faults: 1,430 -> 1,990 prompt tokens/s (SmolLM2-135M, vLLM, 2 threads).
        "THP_MEM_ALLOC_ENABLE": "1",
        "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
        "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    } | ({} if config.kind == "transformers" else _vllm_on_cpu(config))


def _vllm_on_cpu(config: VllmConfig) -> dict[str, str]:
    return {"VLLM_CPU_KVCACHE_SPACE": str(config.cache_gb), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
