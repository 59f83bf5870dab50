"""``POST /v1/embeddings``: the encoder's vectors, in the shape of OpenAI's API.

Legend: N texts, D dimension.
"""

import base64
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from numpy.typing import NDArray

from winnow.api.bodies import describe_body, json_response_of, piece, read_body
from winnow.api.checks import check_texts
from winnow.api.config import ApiConfig
from winnow.api.errors import describe_errors, refuse
from winnow.api.guard import require
from winnow.api.models import EmbeddingsRequest, EmbeddingsResponse
from winnow.api.protocol import EmbeddingAnswer, Searcher

_ALIAS = "winnow"
_NUMBERS_LIKE_A_PASSAGE = 100
"""Numbers that take as long to render as a passage."""


def embeddings_router(searcher: Searcher, config: ApiConfig) -> APIRouter:
    """The embeddings route over ``searcher``."""
    router = APIRouter(tags=["embeddings"])

    @router.post(
        "/v1/embeddings",
        response_model=EmbeddingsResponse,
        responses=describe_errors(400, 401, 403, 404, 408, 413, 422, 429, 500, 503),
        openapi_extra=describe_body(EmbeddingsRequest),
        dependencies=[Depends(require("search"))],
    )
    async def embeddings(request: Request) -> Response:
        """Vectors of texts; ``model`` is ``winnow`` or the version that is served."""
        asked = await read_body(request, EmbeddingsRequest)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        check_texts("input", texts, most=config.max_queries, max_chars=config.max_text_chars)
        answer = await searcher.embed(texts, asked.input_type, truncate=asked.truncate)
        # Of the answer, not before it: a swap in between would make it another version's.
        _check_model(asked, answer)
        render = partial(_render, answer, encoding_format=asked.encoding_format)
        return await json_response_of(render, num_values=answer.embeddings_ND.size // _NUMBERS_LIKE_A_PASSAGE)

    return router


def _check_model(asked: EmbeddingsRequest, answer: EmbeddingAnswer) -> None:
    if asked.model not in (_ALIAS, answer.version):
        raise refuse(404, f"model {ascii(asked.model)[:80]} is not served; expected {_ALIAS!r} or {answer.version!r}")
    dimension = answer.embeddings_ND.shape[1]
    if asked.dimensions not in (None, dimension):
        raise refuse(422, f"dimensions: vectors have {dimension} and are not cut, got {asked.dimensions}; leave it out")


def _render(answer: EmbeddingAnswer, *, encoding_format: str) -> dict[str, Any]:
    embeddings_ND = np.ascontiguousarray(answer.embeddings_ND, dtype="<f4")
    data = [
        piece({"object": "embedding", "index": index, "embedding": _encode(row_D, encoding_format)})
        for index, row_D in enumerate(embeddings_ND)
    ]
    usage = {"prompt_tokens": answer.num_tokens, "total_tokens": answer.num_tokens}
    return {
        "object": "list",
        "data": data,
        "model": answer.version,
        "usage": usage,
        "truncated": answer.num_truncated,
    }


def _encode(row_D: NDArray[np.float32], encoding_format: str) -> str | NDArray[np.float32]:
    return base64.b64encode(row_D).decode() if encoding_format == "base64" else row_D
