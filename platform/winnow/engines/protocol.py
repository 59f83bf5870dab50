"""What a judge asks of an engine. Implementations are the other files of this room; tests use a scripted one.

An engine answers many requests at a time, each a coroutine: whoever wants it kept full hands it many.
A request that fails says so in its answer (``error``); only an engine that can answer nothing any more raises.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from winnow.errors import WinnowError


class EngineDeadError(WinnowError):
    """The engine can answer nothing any more: its process has to start anew. A judge lets it through."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What comes after ``messages``? Greedy at temperature 0, else drawn with ``seed``.

    The model is told not to think unless ``max_reasoning_tokens`` are set apart for it, on top of
    ``max_output_tokens``. ``pattern`` is a regular expression that all of what it says, not what it thinks, has to
    match, where the engine can see to it.
    """

    messages: tuple[Message, ...]
    max_output_tokens: int
    temperature: float = 0.0
    seed: int = 0
    pattern: str | None = None
    max_reasoning_tokens: int = 0

    @property
    def thinks(self) -> bool:
        """Whether the model may think before it speaks."""
        return self.max_reasoning_tokens > 0

    @property
    def max_reply_tokens(self) -> int:
        """Most tokens of all that the model writes."""
        return self.max_output_tokens + self.max_reasoning_tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, and what it cost.

    ``text`` is what was said, ``reasoning`` what was thought before. ``finish_reason`` is ``stop``, ``length`` (cut at
    the most tokens), ``too_long`` (the prompt does not fit) or ``error``. ``seconds`` is this request's share of the
    time the engine was at work, so the sum over requests is that time.
    """

    text: str
    finish_reason: Literal["stop", "length", "too_long", "error"]
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    reasoning: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LikelihoodRequest:
    """How likely is ``continuation`` after ``context``? Both are plain text."""

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Mean natural log probability per token of the continuation, with what it cost to find out.

    ``error`` is set, and ``mean_logprob`` is NaN, where the engine could not answer this request;
    ``finish_reason`` is then ``too_long`` or ``error`` (else ``scored``). ``seconds`` as in ``Reply``.
    """

    mean_logprob: float
    num_continuation_tokens: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    finish_reason: Literal["scored", "too_long", "error"] = "scored"
    error: str | None = None


class Engine(Protocol):
    """A loaded language model, or the way to one. Used from one event loop."""

    @property
    def model_id(self) -> str:
        """Name and content hash of the model; part of every judge's identity."""

    @property
    def max_tokens(self) -> int:
        """Most tokens of a prompt and its reply together."""

    async def chat(self, request: ChatRequest) -> Reply:
        """The model's next turn."""

    async def likelihood(self, request: LikelihoodRequest) -> Likelihood:
        """How likely the continuation is."""

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""

    async def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of ``messages`` as the model gets them, up to where its reply starts."""

    def close(self) -> None:
        """Free the model and end every process the engine started."""
