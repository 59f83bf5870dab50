"""What the application says of itself: ``GET /health``, ``/ready``, ``/info``, ``/metrics``, ``/openapi.json``."""

from fastapi import APIRouter, Depends, Request, Response

import winnow
from winnow.api.bodies import json_response
from winnow.api.config import ApiConfig
from winnow.api.errors import describe_errors, refuse
from winnow.api.guard import require
from winnow.api.metrics import Metrics
from winnow.api.models import Health, Info, Limits, Ready
from winnow.api.protocol import FRESH_S, Searcher

_PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def status_router(searcher: Searcher, config: ApiConfig, metrics: Metrics) -> APIRouter:
    """Routes that look at the application from outside. ``/metrics`` is there if ``metrics`` are published here."""
    router = APIRouter(tags=["status"])
    limits = Limits(**config.model_dump(include=set(Limits.model_fields)))

    @router.get("/health")
    async def health() -> Health:
        """The process answers; nothing else is looked at."""
        return Health()

    @router.get("/ready", responses=describe_errors(503))
    async def ready() -> Ready:
        """A search of the background has just worked; 503 if not."""
        return _check_ready(searcher)

    @router.get("/info", responses=describe_errors(401, 403, 429), dependencies=[Depends(require("search"))])
    async def info() -> Info:
        """What is served, and within which limits."""
        return _describe(searcher, limits)

    @router.get("/openapi.json", include_in_schema=False, dependencies=[Depends(require("search"))])
    async def openapi(request: Request) -> Response:
        return json_response(request.app.openapi())

    if metrics.render() is not None:
        _add_metrics(router, metrics)
    return router


def _add_metrics(router: APIRouter, metrics: Metrics) -> None:
    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **describe_errors(401, 403, 429)},
        dependencies=[Depends(require("search"))],
    )
    async def render_metrics() -> Response:
        """Counters and times, in Prometheus' text format."""
        return Response(metrics.render(), media_type=_PROMETHEUS_TEXT)


def _check_ready(searcher: Searcher) -> Ready:
    readiness = searcher.readiness()
    if not readiness.is_ready or readiness.age_s is None:
        raise _not_ready(readiness.detail)
    if readiness.age_s > FRESH_S:
        raise _not_ready(f"the last search of the background is {readiness.age_s:.1f} s old")
    return Ready(version=readiness.version, age_s=readiness.age_s)


def _not_ready(detail: str) -> Exception:
    return refuse(503, f"not ready: {detail}", headers={"Retry-After": "1"})


def _describe(searcher: Searcher, limits: Limits) -> Info:
    facts = dict(searcher.info())
    return Info(
        version=facts.get("version"),
        winnow=winnow.__version__,
        notice=facts.get("notice"),
        retriever=facts,
        limits=limits,
    )
