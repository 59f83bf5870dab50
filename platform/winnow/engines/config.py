"""Which language model judges, and what it may use of a machine."""

import json
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, ValidationInfo, field_validator, model_validator

from winnow.config import Config, speed_knob
from winnow.engines.precision import quick_precision
from winnow.engines.reasoning import ReasoningParser
from winnow.engines.vllm_args import SPEED, check_engine_args
from winnow.machine import waiting_policy
from winnow.models import ModelReference, check_revision

# What the call that renders a template is given; a template's own variables have other names.
_NO_VARIABLES = {"add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents"}
_NO_VARIABLES |= {"max_length", "messages", "padding", "processor_kwargs", "return_assistant_tokens_mask"}
_NO_VARIABLES |= {"return_dict", "return_tensors", "tokenize", "tokenizer_kwargs", "tools", "truncation"}
_NO_EXTRAS = {"echo", "logprobs", "max_completion_tokens", "max_tokens", "messages", "model", "n", "prompt", "stream"}
_NO_EXTRAS |= {"prompt_logprobs", "response_format", "stream_options", "structured_outputs", "tools", "top_logprobs"}

_SPEED_EXTRAS = {"metadata", "priority", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"}


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected what JSON can hold ({error}); put dates and the like in quotes") from None
    return values


JsonObject = Annotated[dict[str, Any], AfterValidator(_as_json)]
"""Names with values that go to another program as they are."""


def _decided(dtype: str, info: ValidationInfo) -> str:
    return quick_precision(gpus=info.data.get("gpus", 0)) if dtype == "auto" else dtype


Arithmetic = Annotated[Literal["auto", "bfloat16", "float16", "float32"], AfterValidator(_decided)]
"""A setting after ``gpus``, which it depends on."""


class ChatConfig(Config):
    """How a model that speaks is spoken to."""

    chat_template_kwargs: JsonObject = Field({})
    """Variables for the model's chat template, such as ``reasoning_effort: low``. ``enable_thinking: false`` is given
    without being asked unless tokens are set apart for reasoning (``max_reasoning_tokens``)."""

    reasoning_parser: ReasoningParser | None = None
    """How reasoning is marked, by the name of vLLM's parser; by default as the model's tokenizer, or a served model's
    name, says. For a server that was started with a parser of its own: that one. It tells Winnow that patterns hold
    after the reasoning."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _are_variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(_NO_VARIABLES & values.keys())
        if taken:
            raise ValueError(f"{', '.join(taken)} is no variable of a chat template; remove it")
        return values


class VllmConfig(ChatConfig):
    """vLLM inside the actor. The defaults suit a small model on a CPU; on a GPU set ``gpus``, and larger steps."""

    kind: Literal["vllm"]
    """The library that runs the model."""

    model: ModelReference
    """A causal language model: a directory, ``package:name/path``, a hub id, or a GGUF file (converted once)."""

    revision: str | None = None
    """Branch, tag or commit of a hub model, which pins it: without one, a change on the hub is another judge."""

    quantisation: str | None = None
    """How the checkpoint is quantised, in vLLM's words (``awq``, ``gptq``, ``fp8``); by default as it says itself."""

    max_tokens: int = Field(default=2048, ge=16)
    """Longest prompt with its reply. A query that needs a longer one gets the status ``too_long``."""

    gpus: int = speed_knob(0, ge=0)
    """GPUs of each engine (its tensor parallel size); 0 runs it on the CPU."""

    dtype: Arithmetic = Field(default="auto", validate_default=True)
    """Arithmetic of the model. ``auto``: bfloat16 on a GPU and on a CPU that has it, else float32, which is several
    times as fast there. The machine that starts a run decides, and what it decided is part of the judge's identity.
    Scores of half precisions differ in the last digits with what shares a batch."""

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

    engine_args: JsonObject = Field({})
    """More arguments for vLLM's engine, by vLLM's names with underscores, such as ``kv_cache_dtype: fp8``. Those that
    change speed only (``winnow/engines/vllm_args.py`` lists them) are outside the judge's identity. Those that could
    run foreign code, name another model or take what the job has not been given are refused."""

    @model_validator(mode="after")
    def _only_a_hub_has_revisions(self) -> Self:
        check_revision(self.model, self.revision)
        return self

    @field_validator("engine_args")
    @classmethod
    def _may_be_passed_on(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        check_engine_args(arguments)
        return arguments

    def science(self) -> dict[str, Any]:
        """As of every configuration, without the arguments that change speed only."""
        arguments = {name: value for name, value in self.engine_args.items() if name not in SPEED}
        return {**super().science(), "engine_args": arguments}


class TransformersConfig(ChatConfig):
    """Plain transformers inside the actor: likelihoods on a CPU, and a fallback where vLLM does not run."""

    kind: Literal["transformers"]
    """The library that runs the model."""

    model: ModelReference
    """A causal language model: a directory, ``package:name/path``, a hub id, or a GGUF file (converted once)."""

    revision: str | None = None
    """Branch, tag or commit of a hub model, which pins it: without one, a change on the hub is another judge."""

    max_tokens: int = Field(default=2048, ge=16)
    """Longest prompt with its reply. A query that needs a longer one gets the status ``too_long``."""

    gpus: int = speed_knob(0, ge=0, le=1)
    """1 runs it on a GPU, 0 on the CPU."""

    dtype: Arithmetic = Field(default="auto", validate_default=True)
    """Arithmetic of the model. ``auto``: bfloat16 on a GPU and on a CPU that has it, else float32, which is several
    times as fast there. The machine that starts a run decides, and what it decided is part of the judge's identity."""

    cpus: int = speed_knob(1, ge=1)
    """CPUs that each engine reserves. One less than the machine has leaves room for reading."""

    threads: int = speed_knob(2, ge=1)
    """Threads of each engine on a CPU."""

    max_batched_tokens: int = speed_knob(1024, ge=16)
    """Most tokens in one forward pass, padding included."""

    @model_validator(mode="after")
    def _only_a_hub_has_revisions(self) -> Self:
        check_revision(self.model, self.revision)
        return self


class ServerConfig(ChatConfig):
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

    extra_body: JsonObject = Field({})
    """More fields for every request to the model, as the server's own documentation names them, such as
    ``reasoning_effort: low``; they win over what Winnow sends."""

    max_retries: int = speed_knob(5, ge=0)
    """How often a request is repeated, with growing pauses, after a connection error, a timeout, 429 or 5xx."""

    cpus: float = speed_knob(0.5, gt=0)
    """CPUs that each actor reserves."""

    def science(self) -> dict[str, Any]:
        """As of every configuration, without the fields that say who asks and how urgently."""
        fields = {name: value for name, value in self.extra_body.items() if name not in _SPEED_EXTRAS}
        return {**super().science(), "extra_body": fields}

    @field_validator("extra_body")
    @classmethod
    def _leaves_replies_readable(cls, fields: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(_NO_EXTRAS & fields.keys())
        if taken:
            raise ValueError(f"{', '.join(taken)} is set by Winnow, or the reply could not be read; remove it")
        if "chat_template_kwargs" in fields:
            raise ValueError("chat_template_kwargs has a setting of its own; set engine.chat_template_kwargs")
        return fields

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
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in-process: no child but one per GPU, where there are several
        # An actor's output reaches the user's console: errors only.
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **waiting_policy(),
    }
    if config.kind == "server":
        return shared
    if config.model.startswith(("package:", ".", "/", "~")):
        shared["HF_HUB_OFFLINE"] = "1"
    return shared if config.gpus else shared | _cpu_environment(config)


def _cpu_environment(config: VllmConfig | TransformersConfig) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(config.threads),
        "TORCH_COMPILE_DISABLE": "1",  # compiling takes longer than a small run
        # The vocabulary head allocates tens of MB per prompt. Without these three a third of the CPU time goes into
        # page faults: 1,430 -> 1,990 prompt tokens/s (SmolLM2-135M, vLLM, 2 threads).
        "THP_MEM_ALLOC_ENABLE": "1",
        "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
        "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    } | ({} if config.kind == "transformers" else _vllm_on_cpu(config))


def _vllm_on_cpu(config: VllmConfig) -> dict[str, str]:
    return {"VLLM_CPU_KVCACHE_SPACE": str(config.cache_gb), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
