"""A chat engine for tests of judging that says what it is told to, and remembers what it was asked."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from winnow.engines.protocol import ChatRequest, Likelihood, LikelihoodRequest, Message, Reply
from winnow.engines.reasoning import split_reasoning

Script = Callable[[ChatRequest], str | Reply]


class ScriptedChat:
    """Replies from a list, in order, or from a function of the request. Counts words as tokens.

    What stands in ``<think>`` becomes the reasoning, as with a real engine.

    A prompt that does not fit is answered as a real engine would. An exception in the list is raised.
    """

    model_id = "scripted-chat-1"

    def __init__(self, replies: Sequence[str | Reply | Exception] | Script, *, max_tokens: int = 100_000) -> None:
        self.max_tokens = max_tokens
        self.requests: list[ChatRequest] = []
        self.is_closed = False
        self._replies = replies if callable(replies) else _in_order(replies)

    async def chat(self, request: ChatRequest) -> Reply:
        self.requests.append(request)
        num_prompt = await self.count_prompt_tokens(request.messages)
        if num_prompt + request.max_reply_tokens > self.max_tokens:
            return Reply("", "too_long", 0, 0, 0, 0.0, error=f"{num_prompt} words do not fit")
        said = self._replies(request)
        if not isinstance(said, Reply):
            said = Reply(said, "stop", num_prompt, 0, len(said.split()), 0.5)
        reasoning, text = split_reasoning(said.text)
        return replace(said, text=text, reasoning=said.reasoning or reasoning)

    async def likelihood(self, request: LikelihoodRequest) -> Likelihood:
        raise AssertionError("this engine only chats")

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    async def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        return sum(await self.count_tokens([message.content for message in messages]))

    def close(self) -> None:
        self.is_closed = True

    @property
    def prompts(self) -> list[str]:
        """The last turn of each request."""
        return [request.messages[-1].content for request in self.requests]


def cut_reply(text: str) -> Reply:
    """A reply that reached the limit of its length."""
    return Reply(text, "length", 10, 0, 8, 0.5)


def _in_order(replies: Sequence[str | Reply | Exception]) -> Script:
    left = iter(replies)

    def reply(request: ChatRequest) -> str | Reply:
        said = next(left)
        if isinstance(said, Exception):
            raise said
        return said

    return reply
