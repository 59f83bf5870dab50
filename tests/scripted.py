"""An engine for tests of judging. Apart from ``fakes``, so that an actor that holds one starts without torch."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from winnow.engines.protocol import Likelihood, LikelihoodRequest


class ScriptedEngine:
    """Likelihood by shared words: a context makes a continuation likelier the more of its words it holds.

    ``script`` changes the reply to a continuation that contains a key: ``raise`` (the whole call fails), ``error``,
    or ``too_long``. ``log`` gets a line per request, process id and continuation, from whichever process it is in.
    """

    model_id = "scripted-1"

    def __init__(self, script: Mapping[str, str] | None = None, *, log: Path | None = None, pause_s: float = 0) -> None:
        self._script = script or {}
        self._log = log
        self._pause_s = pause_s

    def likelihood(self, requests: Sequence[LikelihoodRequest]) -> list[Likelihood]:
        time.sleep(self._pause_s)
        if self._log is not None:
            with self._log.open("a") as file:
                file.writelines(f"{os.getpid()}\t{request.continuation.strip()}\n" for request in requests)
        return [self._answer(request) for request in requests]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def close(self) -> None:
        self._script = {}

    def _answer(self, request: LikelihoodRequest) -> Likelihood:
        what = next((reply for key, reply in self._script.items() if key in request.continuation), "score")
        if what == "raise":
            raise RuntimeError("the scripted engine was told to fail")
        words = request.continuation.split()
        num_prompt = len(request.context.split()) + len(words)
        if what != "score":
            reason = "too_long" if what == "too_long" else "error"
            return Likelihood(math.nan, len(words), 0, 0, 0, 0.0, finish_reason=reason, error=f"scripted {reason}")
        shared = len(set(words) & set(request.context.split()))
        return Likelihood(shared / len(words) - 2.0, len(words), num_prompt, 0, 1, 0.001)
