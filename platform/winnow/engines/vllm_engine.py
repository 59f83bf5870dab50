"""vLLM inside this process, kept full.

In-process on one device. On several GPUs vLLM has a process for each; ``leftovers.py`` ends them with the process
that holds the engine. That process must not have loaded numba (BM25 libraries bring it): without triton, vLLM's CPU
build scans all loaded modules and fails on llvmlite.
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.engines.answers import failed_likelihood, failed_reply, refuse_cached
from winnow.engines.checkpoint import checkpoint_directory, checkpoint_id
from winnow.engines.config import VllmConfig, engine_environment
from winnow.engines.leftovers import ChildWatch
from winnow.engines.prompts import ChatPrompt, ScoredPrompt, load_tokenizer
from winnow.engines.protocol import ChatRequest, EngineDeadError, Likelihood, LikelihoodRequest, Message, Reply
from winnow.engines.stepping import SteppingThread
from winnow.errors import ConfigError


class VllmEngine:
    """A causal language model in vLLM. Loading takes 5-15 s for a small model."""

    def __init__(self, config: VllmConfig, cache: Path) -> None:
        if not config.gpus and "llvmlite" in sys.modules:
            raise ConfigError(
                "numba is loaded here, so vLLM cannot start on a CPU; give the engine a process of its own"
            )
        for name, value in engine_environment(config).items():
            os.environ.setdefault(name, value)
        self.max_tokens = config.max_tokens
        directory = checkpoint_directory(config, cache)
        # One of our own: vLLM's thread uses its tokenizer at the same time.
        self._tokenizer = load_tokenizer(config, directory)
        self._sees_thoughts_end = self._tokenizer.marks_its_thoughts
        arguments = engine_arguments(config, directory, sees_thoughts_end=self._sees_thoughts_end)
        self._watch = ChildWatch(os.getpid()) if config.gpus > 1 else None
        self._thread = SteppingThread(lambda: _VllmSteps(arguments))
        # Afterwards: what was hashed is then what was loaded, or the difference is found.
        self.model_id = checkpoint_id(config)

    async def chat(self, request: ChatRequest) -> Reply:
        """The model's next turn, after its own chat template. ``pattern`` is obeyed."""
        try:
            prompt = self._tokenizer.chat_prompt(request)
            # Within a pattern nobody can think: it has to wait for the end of the thought, if that can be seen.
            pattern = None if request.thinks and not self._sees_thoughts_end else request.pattern
            sent = _Sent(prompt.token_ids, _chat_params(request, pattern), thinks=request.thinks)
            output, seconds = await self._thread.answer(sent)
        except EngineDeadError:
            raise
        except Exception as error:
            return failed_reply(error)
        return self._reply(prompt, output, seconds)

    async def likelihood(self, request: LikelihoodRequest) -> Likelihood:
        """How likely the continuation is. vLLM computes all of the prompt for it, whatever its cache holds."""
        try:
            prompt = self._tokenizer.likelihood_prompt(request)
            output, seconds = await self._thread.answer(_Sent(prompt.token_ids, _likelihood_params()))
            return likelihood_of(prompt, output, seconds)
        except EngineDeadError:
            raise
        except Exception as error:
            return failed_likelihood(error)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        return self._tokenizer.count_tokens(texts)

    async def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of ``messages`` in the model's chat template."""
        return self._tokenizer.count_prompt_tokens(messages)

    def _reply(self, prompt: ChatPrompt, output: Any, seconds: float) -> Reply:
        (completion,) = output.outputs
        token_ids, reason = list(completion.token_ids), completion.finish_reason
        said = token_ids[:-1] if reason == "stop" else token_ids  # without the token that ends it
        is_said = reason in ("stop", "length")
        reasoning, text = self._tokenizer.read_reply(prompt, said) if is_said else (None, "")
        return Reply(
            text=text,
            finish_reason=reason if is_said else "error",
            error=None if is_said else f"vLLM ended the reply with {reason!r}, expected 'stop' or 'length'",
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            output_tokens=len(token_ids),
            seconds=seconds,
            reasoning=reasoning,
        )

    def close(self) -> None:
        """Shut vLLM down. Requests that wait, and later ones, raise ``EngineDeadError``."""
        self._thread.close()
        if self._watch is not None:
            self._watch.close()


@dataclass(frozen=True, slots=True)
class _Sent:
    """Token ids with vLLM's sampling parameters. A pattern in them holds after the thought of a model that thinks."""

    token_ids: list[int]
    params: Any
    thinks: bool = False


class _VllmSteps:
    """vLLM's own step loop, as a ``Stepper`` of token ids with their sampling parameters."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # it warns where there is no triton
        from vllm import EngineArgs  # reads the environment that was set just now
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.llm_engine import LLMEngine

        self._as_input = tokens_input
        self._engine: Any = LLMEngine.from_engine_args(EngineArgs(**arguments))

    def add(self, key: int, request: _Sent) -> None:
        tasks = self._engine.get_supported_tasks()
        prompt = self._as_input(request.token_ids)
        try:
            prepared = self._engine.input_processor.process_inputs(str(key), prompt, request.params, tasks)
            # Said outright: vLLM would look for marks in the prompt, which may hold any text, or none.
            prepared.reasoning_ended = not request.thinks
            self._engine.add_request(str(key), prepared, request.params)
        except Exception:
            self.drop(key)
            raise

    def step(self) -> list[tuple[int, Any]]:
        return [(int(output.request_id), output) for output in self._engine.step() if output.finished]

    def drop(self, key: int) -> None:
        self._engine.abort_request([str(key)])

    def close(self) -> None:
        self._engine.engine_core.shutdown()
        del self._engine


def engine_arguments(config: VllmConfig, directory: Path, *, sees_thoughts_end: bool) -> dict[str, Any]:
    """What vLLM is started with."""
    return {
        "model": str(directory),
        "dtype": config.dtype,
        "quantization": config.quantisation,
        "max_model_len": config.max_tokens,
        "max_num_seqs": config.max_sequences,
        "max_num_batched_tokens": config.max_batched_tokens,
        "tensor_parallel_size": max(1, config.gpus),
        "gpu_memory_utilization": config.gpu_memory_share,
        "enforce_eager": not config.gpus,
        "enable_prefix_caching": True,
        "trust_remote_code": False,
        "use_tqdm_on_load": False,
        "disable_log_stats": True,
        # Tells vLLM where a pattern begins. Of those that read <think> and </think> the one with no rules of its own.
        "reasoning_parser": "deepseek_r1" if sees_thoughts_end else "",
        **config.engine_args,
    }


def _chat_params(request: ChatRequest, pattern: str | None) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        max_tokens=request.max_reply_tokens,
        temperature=request.temperature,
        seed=request.seed if request.temperature else None,
        structured_outputs=StructuredOutputsParams(regex=pattern) if pattern else None,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _likelihood_params() -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=0,
        prompt_logprobs=0,
        skip_reading_prefix_cache=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def likelihood_of(prompt: ScoredPrompt, output: Any, seconds: float) -> Likelihood:
    """What vLLM's ``output`` says of ``prompt``. Raises ``WinnowError`` if it did not compute all of it."""
    refuse_cached(output.num_cached_tokens or 0)
    scored = list(zip(prompt.token_ids, output.prompt_logprobs, strict=True))[prompt.num_context_tokens :]
    logprobs = [by_token[token].logprob for token, by_token in scored]
    return Likelihood(
        mean_logprob=sum(logprobs) / len(logprobs),
        num_continuation_tokens=prompt.num_continuation_tokens,
        prompt_tokens=len(prompt.token_ids),
        cached_tokens=0,
        output_tokens=len(output.outputs[0].token_ids),
        seconds=seconds,
    )
