"""The HTTP application over a search. It knows no Ray: ``cluster/serving.py`` deploys it."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

import winnow
from winnow.api.config import ApiConfig
from winnow.api.errors import BodyLimit, describe_errors, install_error_handlers, refuse
from winnow.api.models import Health, Hit, Info, Limits, SearchAnswer, Searcher, SearchRequest, SearchResponse


def build_app(searcher: Searcher, config: ApiConfig = ApiConfig()) -> FastAPI:
    """An ASGI application: ``POST /v1/search``, ``GET /health``, ``GET /info``, ``GET /openapi.json``."""
    # The interactive pages load scripts from other hosts, so only the description itself is served.
    app = FastAPI(title="Winnow", version=winnow.__version__, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, max_bytes=config.max_body_bytes)
    install_error_handlers(app)
    slots = _Slots(config.max_pending)

    @app.get("/health")
    async def health() -> Health:
        return Health()

    @app.get("/info")
    async def info() -> Info:
        facts = dict(searcher.info())
        return Info(version=facts["version"], retriever=facts, limits=Limits(**config.model_dump(include=_LIMITS)))

    @app.post("/v1/search", responses=describe_errors())
    async def search(request: SearchRequest) -> SearchResponse:
        _check(request, config)
        with slots.taken():
            return _render(await searcher.search(request.queries, request.k))

    return app


_LIMITS = set(Limits.model_fields)


class _Slots:
    """Counts the requests in work, so that a flood is refused at once instead of queued without end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        if self._taken >= self._limit:
            raise refuse(503, f"{self._limit} searches are in work already; try again", headers={"Retry-After": "1"})
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def _check(request: SearchRequest, config: ApiConfig) -> None:
    if len(request.queries) > config.max_queries:
        raise refuse(422, f"queries: {len(request.queries)} in one request, at most {config.max_queries} are allowed")
    if request.k > config.max_k:
        raise refuse(422, f"k: {request.k} is more than the {config.max_k} passages allowed per query")
    for position, query in enumerate(request.queries):
        if not query.strip():
            raise refuse(422, f"queries.{position} is empty")
        if len(query) > config.max_query_chars:
            raise refuse(
                422, f"queries.{position} has {len(query)} characters, at most {config.max_query_chars} are allowed"
            )


def _render(answer: SearchAnswer) -> SearchResponse:
    results = [
        [Hit(passage_id=hit.passage_id, score=hit.score, title=hit.title, text=hit.text) for hit in hits]
        for hits in answer.results
    ]
    return SearchResponse(results=results, version=answer.version)
