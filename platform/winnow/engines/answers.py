"""Answers to requests that were not answered."""

import math
from typing import Literal

from winnow.engines.protocol import Likelihood, Reply
from winnow.errors import WinnowError

Failure = Literal["too_long", "error"]


class TooLongError(ValueError):
    """A prompt does not fit the engine; nothing was computed."""


class PromptTooLongError(TooLongError):
    """As found here, by counting."""

    def __init__(self, prompt_tokens: int, max_tokens: int, *, reply_tokens: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and its reply up to {reply_tokens}, "
            f"expected at most {max_tokens} together (engine.max_tokens)"
        )


class ServerError(ValueError):
    """The server refused a request, or could not be asked. Its text never holds the key."""


class RefusedError(ServerError):
    """The server says that the request itself is wrong (400 or 422); repeating it is of no use."""


class ServerTooLongError(RefusedError, TooLongError):
    """The server says that the prompt, or prompt and reply together, exceed its model's context."""


def refuse_cached(cached_tokens: int) -> None:
    """Returns if a scored prompt was computed whole, else raises ``WinnowError``.

    Log probabilities of a prompt that was taken from a cache in part are missing there, or of another request.
    """
    if cached_tokens:
        raise WinnowError(
            f"{cached_tokens} tokens of a scored prompt came from the engine's prefix cache, expected none, as scores "
            f"would depend on what was asked before; switch its prefix caching off (vllm serve "
            f"--no-enable-prefix-caching), or take engine.kind: transformers"
        )


def failed_reply(error: Exception) -> Reply:
    """What ``error`` means for a chat request. Nothing counts as computed."""
    return Reply("", _reason(error), 0, 0, 0, 0.0, error=_describe(error))


def failed_likelihood(error: Exception) -> Likelihood:
    """What ``error`` means for a likelihood request. Nothing counts as computed."""
    return Likelihood(math.nan, 0, 0, 0, 0, 0.0, finish_reason=_reason(error), error=_describe(error))


def _describe(error: Exception) -> str:
    """One line: our own sentences as they are, others with their type."""
    text = str(error) if isinstance(error, TooLongError | WinnowError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]


def _reason(error: Exception) -> Failure:
    return "too_long" if isinstance(error, TooLongError) else "error"
