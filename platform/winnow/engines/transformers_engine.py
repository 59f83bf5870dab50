"""Plain transformers inside this process.

Made for likelihoods on a CPU: the vocabulary head, a fifth of a small model's arithmetic, sees only the positions
that are scored. Chat works, one request at a time, and is slow; ``pattern`` is not enforced.

Legend: N prompts, L their padded length, T scored tokens of all prompts, V vocabulary.
"""

import os
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from winnow.engines.answers import failed_likelihood, failed_reply
from winnow.engines.checkpoint import checkpoint_directory, checkpoint_id
from winnow.engines.config import TransformersConfig, engine_environment
from winnow.engines.prompts import ScoredPrompt, load_tokenizer
from winnow.engines.protocol import ChatRequest, EngineDeadError, Likelihood, LikelihoodRequest, Message, Reply
from winnow.engines.stepping import SteppingThread
from winnow.seeding import seeded_torch


class TransformersEngine:
    """A causal language model in transformers."""

    def __init__(self, config: TransformersConfig, cache: Path) -> None:
        for name, value in engine_environment(config).items():
            os.environ.setdefault(name, value)
        self.max_tokens = config.max_tokens
        directory = checkpoint_directory(config, cache)
        self._tokenizer = load_tokenizer(config, directory)
        self._thread = SteppingThread(lambda: _TransformersSteps(config, directory))
        # Afterwards: what was hashed is then what was loaded, or the difference is found.
        self.model_id = checkpoint_id(config)

    async def chat(self, request: ChatRequest) -> Reply:
        """The model's next turn, after its own chat template."""
        try:
            prompt = self._tokenizer.chat_prompt(request)
            output, seconds = await self._thread.answer(ToWrite(prompt.token_ids, request))
        except EngineDeadError:
            raise
        except Exception as error:
            return failed_reply(error)
        reason = "stop" if output.is_finished else "length"
        said = output.token_ids[:-1] if output.is_finished else output.token_ids  # without the token that ends it
        reasoning, text = self._tokenizer.read_reply(prompt, said)
        return Reply(text, reason, len(prompt.token_ids), 0, len(output.token_ids), seconds, reasoning)

    async def likelihood(self, request: LikelihoodRequest) -> Likelihood:
        """How likely the continuation is. Requests that wait at the same time share a forward pass."""
        try:
            prompt = self._tokenizer.likelihood_prompt(request)
            mean_logprob, seconds = await self._thread.answer(prompt)
        except EngineDeadError:
            raise
        except Exception as error:
            return failed_likelihood(error)
        return Likelihood(mean_logprob, prompt.num_continuation_tokens, len(prompt.token_ids), 0, 0, seconds)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        return self._tokenizer.count_tokens(texts)

    async def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of ``messages`` in the model's chat template."""
        return self._tokenizer.count_prompt_tokens(messages)

    def close(self) -> None:
        """Free the model. Requests that wait, and later ones, raise ``EngineDeadError``."""
        self._thread.close()


@dataclass(frozen=True, slots=True)
class ToWrite:
    """A conversation as the model gets it, and how its reply is to be made."""

    token_ids: list[int]
    request: ChatRequest


@dataclass(frozen=True, slots=True)
class Generated:
    """The tokens of a reply; it is not finished where it was cut."""

    token_ids: list[int]
    is_finished: bool


class _TransformersSteps:
    """A step scores one batch of waiting prompts; if there are none, it writes one waiting reply."""

    def __init__(self, config: TransformersConfig, directory: Path) -> None:
        self._model = _load(config, directory)
        self._max_batched_tokens = config.max_batched_tokens
        self._to_score: dict[int, ScoredPrompt] = {}
        self._to_write: dict[int, ToWrite] = {}

    def add(self, key: int, request: ScoredPrompt | ToWrite) -> None:
        if isinstance(request, ScoredPrompt):
            self._to_score[key] = request
        else:
            self._to_write[key] = request

    def step(self) -> list[tuple[int, Any]]:
        if self._to_score:
            keys = take_batch(self._to_score, self._max_batched_tokens)
            prompts = [self._to_score.pop(key) for key in keys]
            return list(zip(keys, _or_error(prompts, partial(score, self._model, prompts)), strict=True))
        key = next(iter(self._to_write))
        prompt = self._to_write.pop(key)
        return [(key, *_or_error([prompt], lambda: [write(self._model, prompt)]))]

    def drop(self, key: int) -> None:
        self._to_score.pop(key, None)
        self._to_write.pop(key, None)

    def close(self) -> None:
        del self._model


def take_batch(waiting: dict[int, ScoredPrompt], max_batched_tokens: int) -> list[int]:
    """Keys of the longest prompts that fit one forward pass, padding included; at least one.

    Neighbours in length pad little. A longer prompt that comes later overtakes a shorter one, which does not
    starve: whoever asks has a limited number of requests open.
    """
    keys = sorted(waiting, key=lambda key: -len(waiting[key].token_ids))
    longest = len(waiting[keys[0]].token_ids)
    return keys[: max(1, max_batched_tokens // longest)]


def score(model: Any, prompts: Sequence[ScoredPrompt]) -> list[float]:
    """Mean log probability per token of each prompt's continuation, in one forward pass.

    Padding stands at the right, where no causal model looks, so there is no attention mask.
    """
    import torch

    lengths = [len(prompt.token_ids) for prompt in prompts]
    ids_NL = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids_NL[row, : lengths[row]] = torch.tensor(prompt.token_ids)
    spans = [range(prompt.num_context_tokens, length) for prompt, length in zip(prompts, lengths, strict=True)]
    rows_T = torch.tensor([row for row, span in enumerate(spans) for _ in span], device=model.device)
    columns_T = torch.tensor([column for span in spans for column in span], device=model.device)
    ids_NL = ids_NL.to(model.device)
    # The token at a position is predicted by the one before it.
    with torch.inference_mode(), _head_sees_only(model, rows_T, columns_T - 1):
        logits_TV = model(input_ids=ids_NL, use_cache=False).logits.float()
        chosen_T = logits_TV.gather(1, ids_NL[rows_T, columns_T].unsqueeze(1)).squeeze(1)
        logprobs_T = chosen_T - logits_TV.logsumexp(dim=1)
    return [part.mean().item() for part in logprobs_T.cpu().split([len(span) for span in spans])]


def write(model: Any, prompt: ToWrite) -> Generated:
    """The reply's tokens. Draws come from a generator seeded for this request."""
    import torch
    from transformers import GenerationConfig

    request = prompt.request
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    sampling = {"do_sample": True, "temperature": request.temperature, "top_k": 0, "top_p": 1.0}
    how = GenerationConfig(
        max_new_tokens=request.max_reply_tokens,
        repetition_penalty=1.0,
        eos_token_id=ends or None,
        pad_token_id=0,
        **(sampling if request.temperature else {"do_sample": False}),
    )
    ids_NL = torch.tensor([prompt.token_ids], device=model.device)
    with torch.inference_mode(), seeded_torch(request.seed, model.device):
        all_ids = model.generate(ids_NL, attention_mask=torch.ones_like(ids_NL), generation_config=how)[0].tolist()
    reply = all_ids[len(prompt.token_ids) :]
    return Generated(reply, is_finished=bool(reply) and reply[-1] in ends)


@contextmanager
def _head_sees_only(model: Any, rows_T: Any, columns_T: Any) -> Any:
    """Within, the model's logits are those of the named positions, ``(T, V)``; what a model does to them stays."""
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][rows_T, columns_T],))
    try:
        yield
    finally:
        hook.remove()


def _or_error(prompts: Sequence[Any], compute: Any) -> list[Any]:
    """What ``compute`` gives for the prompts, or its error for each of them: another batch may still work."""
    try:
        return compute()
    except Exception as error:
        return [error for _ in prompts]


def _load(config: TransformersConfig, directory: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if not config.gpus:
        torch.set_num_threads(config.threads)
    model = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=getattr(torch, config.dtype),
        attn_implementation="sdpa",
        use_safetensors=True,
        local_files_only=True,
    )
    return model.to("cuda" if config.gpus else "cpu").eval()
