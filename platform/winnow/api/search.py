"""``POST /v1/search``: the passages that fit a query best."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from winnow.api.bodies import describe_body, json_response_of, piece, read_body
from winnow.api.checks import check_k, check_text, check_texts
from winnow.api.config import ApiConfig
from winnow.api.errors import describe_errors, refuse
from winnow.api.guard import require
from winnow.api.models import RawFilter, SearchRequest, SearchResponse
from winnow.api.protocol import SearchAnswer, Searcher, SearchOptions
from winnow.records import ScoredPassage
from winnow.retrieval.filtering import Filter, parse_filter


def search_router(searcher: Searcher, config: ApiConfig) -> APIRouter:
    """The search route over ``searcher``."""
    router = APIRouter(tags=["search"])

    @router.post(
        "/v1/search",
        response_model=SearchResponse,
        responses=describe_errors(400, 401, 403, 408, 413, 422, 429, 500, 503),
        openapi_extra=describe_body(SearchRequest),
        dependencies=[Depends(require("search"))],
    )
    async def search(request: Request) -> Response:
        """The passages that fit each query best."""
        asked = await read_body(request, SearchRequest)
        queries = _queries(asked, config)
        note_queries(request, queries)
        check_k(asked.k, config, num_queries=len(queries))
        options = SearchOptions(asked.k, asked.mode, read_filter(asked.filter), asked.with_text)
        answer = await searcher.search(queries, options)
        num_hits = sum(len(hits) for hits in answer.results)
        return await json_response_of(partial(_render, answer, with_text=asked.with_text), num_values=num_hits)

    return router


def note_queries(request: Request, queries: Sequence[str]) -> None:
    """Leave ``queries`` for the request's line in the log, which has them only where that is switched on."""
    request.state.queries = queries


def read_filter(raw: RawFilter | None) -> Filter | None:
    """The filter of a request. Raises ``DataError``."""
    return None if raw is None else parse_filter(raw)


def render_hit(hit: ScoredPassage, *, with_text: bool) -> dict[str, Any]:
    """``Hit`` as plain values."""
    fields: dict[str, Any] = {"passage_id": hit.passage_id, "score": hit.score, "title": hit.title}
    if with_text:
        fields["text"] = hit.text
    if hit.document_id is not None:
        fields["document_id"] = hit.document_id
    if hit.metadata is not None:
        fields["metadata"] = dict(hit.metadata)
    return fields


def _queries(asked: SearchRequest, config: ApiConfig) -> list[str]:
    if asked.query is not None and asked.queries is None:
        check_text("query", asked.query, max_chars=config.max_query_chars)
        return [asked.query]
    if asked.queries is not None and asked.query is None:
        check_texts("queries", asked.queries, most=config.max_queries, max_chars=config.max_query_chars)
        return asked.queries
    what = "neither" if asked.query is None else "both"
    raise refuse(422, f"expected either query (a text) or queries (a list of texts), got {what}")


def _render(answer: SearchAnswer, *, with_text: bool) -> Mapping[str, Any]:
    results = [[piece(render_hit(hit, with_text=with_text)) for hit in hits] for hits in answer.results]
    notes = {"words_cut": answer.words_cut, "empty_lists": answer.empty_lists}
    return {"results": results, "version": answer.version, **{name: note for name, note in notes.items() if any(note)}}
