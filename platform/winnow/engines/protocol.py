"""What a judge asks of an engine. Implementations: ``vllm_engine.py``; tests use a scripted one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LikelihoodRequest:
    """How likely is ``continuation`` after ``context``? Both are plain text."""

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Mean natural log probability per token of the continuation, with what it cost to find out.

    ``error`` is set, and ``mean_logprob`` is NaN, where the engine could not answer this request;
    ``finish_reason`` is then ``too_long`` or ``error`` (else ``scored``).
    """

    mean_logprob: float
    num_continuation_tokens: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    finish_reason: str = "scored"
    error: str | None = None


class Engine(Protocol):
    """A loaded language model. One engine lives in one process."""

    @property
    def model_id(self) -> str:
        """Name and content hash of the model; part of every judge's identity."""

    def likelihood(self, requests: Sequence[LikelihoodRequest]) -> list[Likelihood]:
        """One answer per request, in order. A request that fails carries its error; the others go on."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""

    def close(self) -> None:
        """Free the model and end every process the engine started."""
