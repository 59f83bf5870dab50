"""``/v1/admin/version``: which retriever version is served, and a swap to another one."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from winnow.api.bodies import describe_body, json_response, read_body
from winnow.api.errors import describe_errors, refuse
from winnow.api.guard import require
from winnow.api.limits import lift_deadline
from winnow.api.models import SwapRequest, SwapResponse
from winnow.api.protocol import Versions

PATH = "/v1/admin/version"


def admin_router(versions: Versions | None) -> APIRouter:
    """The admin routes over ``versions``; without them they answer 404."""
    router = APIRouter(tags=["admin"], dependencies=[Depends(require("admin"))])

    @router.post(
        PATH,
        response_model=SwapResponse,
        responses=describe_errors(400, 401, 403, 404, 408, 413, 422, 424, 429, 500, 503),
        openapi_extra=describe_body(SwapRequest),
    )
    async def swap(request: Request) -> Response:
        """Serve another version on every replica; the old one goes on until all have the new one. Also a way back."""
        wanted = await read_body(request, SwapRequest)
        # To load a large index takes minutes, and a swap that nobody waits for any more would go on all the same.
        lift_deadline(request)
        return json_response(await _there(versions).swap(wanted.retriever))

    @router.get(PATH, responses=describe_errors(401, 403, 404, 429))
    async def describe() -> dict[str, Any]:
        """The version that is wanted, and what each replica serves."""
        return dict[str, Any](await _there(versions).describe())

    return router


def _there(versions: Versions | None) -> Versions:
    if versions is None:
        raise refuse(404, "versions cannot be swapped here; start the server again with another serve.retriever")
    return versions
