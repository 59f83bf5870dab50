"""The HTTP application over a search. It knows no Ray: ``winnow/cluster`` deploys it, and so does ``standalone.py``."""

from fastapi import FastAPI

import winnow
from winnow.api.admin import admin_router
from winnow.api.answer import BuildEngine, answer_router
from winnow.api.config import ApiConfig
from winnow.api.embeddings import embeddings_router
from winnow.api.guard import install_guard
from winnow.api.metrics import Metrics
from winnow.api.protocol import Access, Searcher, Versions
from winnow.api.search import search_router
from winnow.api.status import status_router


def build_app(
    searcher: Searcher,
    config: ApiConfig,
    *,
    access: Access,
    versions: Versions | None,
    metrics: Metrics,
    build_engine: BuildEngine | None = None,
    behind_serve: bool = False,
) -> FastAPI:
    """An ASGI application with the routes of this folder; ``GET /openapi.json`` describes them.

    ``build_engine`` makes what writes the answers of ``POST /v1/answer``. ``behind_serve``: Ray Serve and
    HAProxy stand in front. There is no CORS: web pages of other hosts get nothing.
    """
    # The interactive pages load scripts from other hosts, and the description itself may need a key.
    app = FastAPI(
        title="Winnow",
        version=winnow.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # A redirect would lead to whatever host the request claims to have asked.
        redirect_slashes=False,
    )
    app.include_router(search_router(searcher, config))
    app.include_router(embeddings_router(searcher, config))
    app.include_router(answer_router(searcher, config, metrics, build_engine))
    app.include_router(admin_router(versions))
    app.include_router(status_router(searcher, config, metrics))
    install_guard(app, config, access, metrics, behind_serve=behind_serve)
    return app
