"""``POST /v1/answer``: an answer to a question, with the passages that it stands on."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from winnow.answering.generating import Answered, Answerer, GeneratorFailedError
from winnow.answering.prompting import QuestionTooLongError, Shown
from winnow.api.aside import aside
from winnow.api.bodies import describe_body, json_response, read_body
from winnow.api.checks import check_k, check_text
from winnow.api.config import ApiConfig
from winnow.api.errors import describe_errors, refuse
from winnow.api.guard import require
from winnow.api.metrics import Metrics
from winnow.api.models import AnswerRequest, AnswerResponse
from winnow.api.protocol import SearchAnswer, Searcher, SearchOptions
from winnow.api.search import note_queries, read_filter, render_hit
from winnow.engines.protocol import Engine
from winnow.errors import ConfigError

_log = logging.getLogger("winnow.api")


BuildEngine = Callable[[], Engine]
"""Makes the engine of the generator. May take long, and fail while its server is away."""


def answer_router(
    searcher: Searcher, config: ApiConfig, metrics: Metrics, build_engine: BuildEngine | None
) -> APIRouter:
    """The answer route; without a generator it answers 404."""
    router = APIRouter(tags=["answer"])
    generator = build_engine and _Generator(build_engine, config)

    @router.post(
        "/v1/answer",
        response_model=AnswerResponse,
        responses=describe_errors(400, 401, 403, 404, 408, 413, 422, 424, 429, 500, 503),
        openapi_extra=describe_body(AnswerRequest),
        dependencies=[Depends(require("search"))],
    )
    async def answer(request: Request) -> Response:
        """An answer from the passages that fit the question best, with citations."""
        if generator is None:
            raise refuse(404, "no generator is configured here; name one as serve.generator, or use /v1/search")
        asked = await read_body(request, AnswerRequest)
        check_text("query", asked.query, max_chars=config.max_query_chars)
        note_queries(request, [asked.query])
        k = config.answer_passages if asked.k is None else asked.k
        check_k(k, config)
        answerer = await generator.get()
        found = await searcher.search([asked.query], SearchOptions(k, asked.mode, read_filter(asked.filter)))
        return json_response(_render(await _answer(answerer, asked.query, found, metrics), found, answerer.model))

    return router


class _Generator:
    """Reached at the first question, not at the start: search must not wait for it."""

    def __init__(self, build_engine: BuildEngine, config: ApiConfig) -> None:
        self._build_engine = build_engine
        self._config = config
        self._building: asyncio.Task[Answerer] | None = None

    async def get(self) -> Answerer:
        """The generator; refuses with 424 while it cannot be reached."""
        if self._building is None or _has_failed(self._building):
            self._building = asyncio.create_task(self._build())
        try:
            # Whoever stops waiting leaves it to the others: a server that hangs is tried once, not by each of them.
            return await asyncio.shield(self._building)
        except ConfigError:
            raise refuse(424, "the generator cannot be reached; the server's log says why") from None

    async def _build(self) -> Answerer:
        try:
            engine = await aside(self._build_engine)
        except ConfigError as error:
            _log.warning("the generator cannot be used: %s", error)
            raise
        config = self._config
        return Answerer(
            engine,
            max_reply_tokens=config.answer_max_tokens,
            max_reasoning_tokens=config.answer_max_reasoning_tokens,
            log_errors=config.log_queries,
        )


def _has_failed(task: asyncio.Task[Answerer]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _answer(answerer: Answerer, query: str, found: SearchAnswer, metrics: Metrics) -> Answered:
    started = time.perf_counter()
    try:
        return await answerer.answer(query, found.results[0])
    except QuestionTooLongError as error:
        raise refuse(422, f"query: {error}; ask a shorter question") from None
    except GeneratorFailedError as error:
        raise refuse(424, str(error)) from None
    finally:
        metrics.observe("winnow_stage_seconds", time.perf_counter() - started, stage="generate")


def _render(answered: Answered, found: SearchAnswer, model: str) -> dict[str, Any]:
    passages = [_render_shown(number, shown) for number, shown in enumerate(answered.shown, start=1)]
    return {
        "answer": answered.answer,
        "is_supported": answered.reason is None,
        "reason": answered.reason,
        "citations": [
            {"number": position + 1, "passage_id": passages[position]["passage_id"]} for position in answered.cited
        ],
        "passages": passages,
        "left_out": len(found.results[0]) - len(passages),
        "version": found.version,
        "model": model,
        "usage": {
            "prompt_tokens": answered.prompt_tokens,
            "completion_tokens": answered.output_tokens,
            "total_tokens": answered.prompt_tokens + answered.output_tokens,
        },
    }


def _render_shown(number: int, shown: Shown) -> dict[str, Any]:
    hit = render_hit(shown.passage, with_text=True)
    return {"number": number, **hit, "text": shown.text, "is_cut": shown.is_cut}
