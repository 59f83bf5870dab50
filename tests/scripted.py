"""An engine for tests of judging. Apart from ``fakes``, so that an actor that holds one starts without torch."""

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from winnow.engines import model_id
from winnow.engines.config import EngineConfig
from winnow.engines.protocol import (
    ChatRequest,
    EngineDeadError,
    Likelihood,
    LikelihoodRequest,
    Message,
    Reply,
)


class ScriptedEngine:
    """Likelihood by shared words: a context makes a continuation likelier the more of its words it holds.

    A chat gets the script's reply to the last message. ``script`` changes the answer to a text that contains a key:
    ``raise`` (the call fails), ``error``, ``too_long``, ``die`` (the engine is dead) or ``kill`` (its process ends).
    ``log`` gets a line per request, process id and text, from whichever process it is in.
    """

    max_tokens = 100_000

    def __init__(
        self,
        script: Mapping[str, str] | None = None,
        *,
        log: Path | None = None,
        pause_s: float = 0,
        model_id: str = "scripted-1",
    ) -> None:
        self.model_id = model_id
        self._script = script or {}
        self._log = log
        self._pause_s = pause_s

    async def likelihood(self, request: LikelihoodRequest) -> Likelihood:
        what = await self._look_up(request.continuation, default="score")
        words = request.continuation.split()
        num_prompt = len(request.context.split()) + len(words)
        if what in ("error", "too_long"):
            return Likelihood(math.nan, len(words), 0, 0, 0, 0.0, finish_reason=what, error=f"scripted {what}")
        shared = len(set(words) & set(request.context.split()))
        return Likelihood(shared / max(1, len(words)) - 2.0, len(words), num_prompt, 0, 1, 0.001)

    async def chat(self, request: ChatRequest) -> Reply:
        text = await self._look_up(request.messages[-1].content, default="[none]")
        num_prompt = await self.count_prompt_tokens(request.messages)
        return Reply(text, "stop", num_prompt, 0, len(text.split()), 0.001)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    async def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        return sum(await self.count_tokens([message.content for message in messages]))

    def close(self) -> None:
        self._script = {}

    async def _look_up(self, text: str, *, default: str) -> str:
        await asyncio.sleep(self._pause_s)
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(f"{os.getpid()}\t{text.strip()}\n")
        what = next((reply for key, reply in self._script.items() if key in text), default)
        if what == "raise":
            raise RuntimeError("the scripted engine was told to fail")
        if what == "die":
            raise EngineDeadError("the scripted engine was told to die")
        if what == "kill":
            os._exit(9)
        return what


def scripted(config: EngineConfig, cache: Path, **options: Any) -> ScriptedEngine:
    """What the steps take for an engine of ``config``. Here, so that its actor imports nothing of the tests' own."""
    return ScriptedEngine(**options, model_id=model_id(config))
