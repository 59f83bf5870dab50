"""vLLM inside this process, kept full.

In-process, so nothing can outlive the process that holds it. The process must not have loaded numba
(BM25 libraries bring it): without triton, vLLM's CPU build scans all loaded modules and fails on llvmlite.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from winnow.engines.answers import failed_likelihood, failed_reply
from winnow.engines.checkpoint import checkpoint_directory, checkpoint_id
from winnow.engines.config import VllmConfig, engine_environment
from winnow.engines.prompts import PromptTokenizer, ScoredPrompt
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
        self.model_id = checkpoint_id(config)
        self.max_tokens = config.max_tokens
        directory = checkpoint_directory(config, cache)
        self._thread = SteppingThread(lambda: _VllmSteps(config, directory))
        # One of our own: vLLM's thread uses its tokenizer at the same time.
        self._tokenizer = PromptTokenizer.load(directory, config.max_tokens)

    async def chat(self, request: ChatRequest) -> Reply:
        """The model's next turn, after its own chat template. ``pattern`` is obeyed."""
        try:
            token_ids = self._tokenizer.chat_prompt(request.messages, reply_tokens=request.max_output_tokens)
            output, seconds = await self._thread.answer((token_ids, _chat_params(request)))
        except EngineDeadError:
            raise
        except Exception as error:
            return failed_reply(error)
        return _reply(output, seconds)

    async def likelihood(self, request: LikelihoodRequest) -> Likelihood:
        """How likely the continuation is. vLLM computes all of the prompt for it, whatever its cache holds."""
        try:
            prompt = self._tokenizer.likelihood_prompt(request)
            output, seconds = await self._thread.answer((prompt.token_ids, _likelihood_params()))
        except EngineDeadError:
            raise
        except Exception as error:
            return failed_likelihood(error)
        return _likelihood(prompt, output, seconds)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        return self._tokenizer.count_tokens(texts)

    async def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of ``messages`` in the model's chat template."""
        return self._tokenizer.count_prompt_tokens(messages)

    def close(self) -> None:
        """Shut vLLM down. Requests that wait, and later ones, raise ``EngineDeadError``."""
        self._thread.close()


class _VllmSteps:
    """vLLM's own step loop, as a ``Stepper`` of token ids with their sampling parameters."""

    def __init__(self, config: VllmConfig, directory: Path) -> None:
        logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # it warns where there is no triton
        from vllm import EngineArgs  # reads the environment that was set just now
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.llm_engine import LLMEngine

        self._as_input = tokens_input
        self._engine: Any = LLMEngine.from_engine_args(EngineArgs(**_engine_arguments(config, directory)))

    def add(self, key: int, request: tuple[list[int], Any]) -> None:
        token_ids, params = request
        try:
            self._engine.add_request(str(key), self._as_input(token_ids), params)
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


def _engine_arguments(config: VllmConfig, directory: Path) -> dict[str, Any]:
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
    }


def _chat_params(request: ChatRequest) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        seed=request.seed if request.temperature else None,
        structured_outputs=StructuredOutputsParams(regex=request.pattern) if request.pattern else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _likelihood_params() -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
    )


def _reply(output: Any, seconds: float) -> Reply:
    (completion,) = output.outputs
    reason = completion.finish_reason
    is_said = reason in ("stop", "length")
    return Reply(
        text=completion.text if is_said else "",
        finish_reason=reason if is_said else "error",
        error=None if is_said else f"vLLM ended the reply with {reason!r}, expected 'stop' or 'length'",
        prompt_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        output_tokens=len(completion.token_ids),
        seconds=seconds,
    )


def _likelihood(prompt: ScoredPrompt, output: Any, seconds: float) -> Likelihood:
    scored = list(zip(prompt.token_ids, output.prompt_logprobs, strict=True))[prompt.num_context_tokens :]
    logprobs = [by_token[token].logprob for token, by_token in scored]
    return Likelihood(
        mean_logprob=sum(logprobs) / len(logprobs),
        num_continuation_tokens=prompt.num_continuation_tokens,
        prompt_tokens=len(prompt.token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        output_tokens=len(output.outputs[0].token_ids),
        seconds=seconds,
    )
