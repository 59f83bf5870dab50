"""What a judge says to the engine about one pool. Every call leaves a trace; a bad reply is asked for once more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

from winnow.engines.markers import defuse
from winnow.engines.protocol import ChatRequest, Engine, Message, Reply
from winnow.errors import JudgmentParseError
from winnow.judging.config import ListwiseJudgeConfig
from winnow.judging.templates import ListwiseTemplate, ReplyForm, Round
from winnow.records import JudgeTrace, Status
from winnow.seeding import derive_seed

T = TypeVar("T")

# Some chat templates refuse an empty turn.
_NO_WORDS = "..."


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """One prompt, and how a reply to it is read: ``read`` raises ``JudgmentParseError``."""

    round: Round
    messages: tuple[Message, ...]
    form: ReplyForm
    read: Callable[[str], T]
    pattern: str | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A reply that could be read, with its text as the turns that follow repeat it."""

    value: T
    text: str


class UnansweredError(Exception):
    """A question that got no usable reply; ``status`` is what that makes of its query."""

    def __init__(self, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Dialogue:
    """All calls about one query, and what they cost. ``notes`` say what a reader of the judgment should know."""

    def __init__(
        self, engine: Engine, template: ListwiseTemplate, config: ListwiseJudgeConfig, *, query_id: str
    ) -> None:
        self.traces: list[JudgeTrace] = []
        self.notes: list[str] = []
        self._engine = engine
        self._template = template
        self._config = config
        self._query_id = query_id

    async def ask(self, question: Question[T]) -> Answer[T]:
        """The reply, read. Raises ``UnansweredError`` when the second one is no better than the first."""
        first = await self._call(question, question.messages, attempt=1)
        try:
            return _read(question, first)
        except UnansweredError as failure:
            problem = "truncated" if failure.status == "truncated" else "malformed"
            stricter = self._template.render_again(problem, question.form)
        said = Message("assistant", defuse(first.text) or _NO_WORDS)
        again = (*question.messages, said, Message("user", stricter))
        return _read(question, await self._call(question, again, attempt=2))

    async def _call(self, question: Question[T], messages: tuple[Message, ...], *, attempt: int) -> Reply:
        """The engine's reply. Raises ``UnansweredError`` when there is none."""
        reply = await self._engine.chat(self._request(question, messages, attempt))
        self.traces.append(_trace(question, messages, attempt, reply))
        if reply.finish_reason == "too_long":
            raise UnansweredError("too_long", f"{question.round}: {reply.error or 'the prompt does not fit'}")
        if reply.finish_reason == "error":
            raise UnansweredError("engine_error", f"{question.round}: {reply.error or 'the engine did not say why'}")
        return reply

    def _request(self, question: Question[T], messages: tuple[Message, ...], attempt: int) -> ChatRequest:
        config = self._config
        # Of the question alone, so that no draw depends on what else is being judged.
        seed = derive_seed(config.seed, self._query_id, question.round, question.window or 0, attempt)
        return ChatRequest(
            messages,
            max_output_tokens=config.max_output_tokens,
            max_reasoning_tokens=config.max_reasoning_tokens,
            temperature=config.temperature,
            seed=seed,
            pattern=question.pattern if config.structured else None,
        )


def _read(question: Question[T], reply: Reply) -> Answer[T]:
    if reply.finish_reason == "length":
        # However complete it looks: the next label, or the rest of this one, may be what was cut off.
        raise UnansweredError(
            "truncated",
            f"{question.round}: the reply was cut off after {reply.output_tokens} tokens, raise "
            f"judge.max_output_tokens (of likelihoods max_answer_tokens) or judge.max_reasoning_tokens: "
            f"{reply.text[:60]!r}",
        )
    try:
        return Answer(question.read(reply.text), defuse(reply.text))
    except JudgmentParseError as error:
        raise UnansweredError("malformed", f"{question.round}: {error}") from error


def _trace(question: Question[T], messages: Sequence[Message], attempt: int, reply: Reply) -> JudgeTrace:
    is_said = reply.finish_reason in ("stop", "length")
    return JudgeTrace(
        round=question.round,
        attempt=attempt,
        prompt_sha=_hash(messages),
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        cached_tokens=reply.cached_tokens,
        output_tokens=reply.output_tokens,
        seconds=reply.seconds,
        window=question.window,
        reply=reply.text if is_said else None,
        reasoning=reply.reasoning,
    )


def _hash(messages: Sequence[Message]) -> str:
    digest = sha256()
    for message in messages:
        digest.update(f"\x1e{message.role}\x1f{message.content}".encode(errors="surrogatepass"))
    return digest.hexdigest()[:16]
