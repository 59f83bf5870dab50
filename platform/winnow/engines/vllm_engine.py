"""vLLM inside this process.

In-process, so nothing can outlive the process that holds it. The process must not have loaded numba
(BM25 libraries bring it): without triton, vLLM's CPU build scans all loaded modules and fails on llvmlite.
"""

import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.engines.checkpoint import checkpoint_directory, model_id
from winnow.engines.config import EngineConfig, engine_environment
from winnow.engines.protocol import Likelihood, LikelihoodRequest
from winnow.errors import ConfigError


@dataclass(frozen=True, slots=True)
class _Prompt:
    token_ids: list[int]
    num_context_tokens: int

    @property
    def num_continuation_tokens(self) -> int:
        return len(self.token_ids) - self.num_context_tokens


class VllmEngine:
    """A causal language model in vLLM. Loading takes 5-15 s for a small model."""

    def __init__(self, config: EngineConfig, cache: Path) -> None:
        if not config.gpus and "llvmlite" in sys.modules:
            raise ConfigError(
                "numba is loaded here, so vLLM cannot start on a CPU; give the engine a process of its own"
            )
        for name, value in engine_environment(config).items():
            os.environ.setdefault(name, value)
        self._llm: Any = _load(config, checkpoint_directory(config, cache))
        self._tokenizer = self._llm.get_tokenizer()
        self._max_tokens = config.max_tokens
        self.model_id = model_id(config)

    def likelihood(self, requests: Sequence[LikelihoodRequest]) -> list[Likelihood]:
        """One answer per request, in order. The continuation is tokenised apart, so the boundary is exact."""
        prompts = self._tokenise(requests)
        # vLLM samples one token after the prompt, which needs a place too.
        fitting = [position for position, prompt in enumerate(prompts) if len(prompt.token_ids) < self._max_tokens]
        started = time.monotonic()
        outputs = self._score([prompts[position] for position in fitting])
        seconds = time.monotonic() - started
        answers = [_too_long(prompt, self._max_tokens) for prompt in prompts]
        num_tokens = sum(len(prompts[position].token_ids) for position in fitting)
        for position, output in zip(fitting, outputs, strict=True):
            prompt = prompts[position]
            answers[position] = _likelihood(prompt, output, seconds * len(prompt.token_ids) / num_tokens)
        return answers

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        return [len(token_ids) for token_ids in self._encode(texts, add_special_tokens=False)]

    def close(self) -> None:
        """Shut the engine down. The object cannot be used afterwards."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm

    def _tokenise(self, requests: Sequence[LikelihoodRequest]) -> list[_Prompt]:
        contexts = self._encode([request.context for request in requests], add_special_tokens=True)
        continuations = self._encode([request.continuation for request in requests], add_special_tokens=False)
        return [_Prompt(context + rest, len(context)) for context, rest in zip(contexts, continuations, strict=True)]

    def _encode(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
        return self._tokenizer(list(texts), add_special_tokens=add_special_tokens).input_ids if texts else []

    def _score(self, prompts: Sequence[_Prompt]) -> list[Any]:
        from vllm import SamplingParams

        inputs = [{"prompt_token_ids": prompt.token_ids} for prompt in prompts]
        params = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
        return self._llm.generate(inputs, params, use_tqdm=False) if inputs else []


def _load(config: EngineConfig, directory: Path) -> Any:
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # it warns where there is no triton
    from vllm import LLM  # reads the environment that was set just now

    return LLM(
        str(directory),
        dtype=config.dtype,
        max_model_len=config.max_tokens,
        max_num_seqs=config.max_sequences,
        max_num_batched_tokens=config.max_batched_tokens,
        tensor_parallel_size=max(1, config.gpus),
        gpu_memory_utilization=config.gpu_memory_share,
        enforce_eager=not config.gpus,
        enable_prefix_caching=False,  # scoring a prompt cannot use it
        trust_remote_code=False,
        use_tqdm_on_load=False,
        disable_log_stats=True,
    )


def _likelihood(prompt: _Prompt, output: Any, seconds: float) -> Likelihood:
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


def _too_long(prompt: _Prompt, max_tokens: int) -> Likelihood:
    return Likelihood(
        mean_logprob=float("nan"),
        num_continuation_tokens=prompt.num_continuation_tokens,
        prompt_tokens=0,  # none was computed
        cached_tokens=0,
        output_tokens=0,
        seconds=0.0,
        finish_reason="too_long",
        error=f"the prompt has {len(prompt.token_ids)} tokens, expected fewer than {max_tokens} (engine.max_tokens)",
    )
