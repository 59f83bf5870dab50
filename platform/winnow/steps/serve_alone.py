"""The retriever version behind an HTTP endpoint of this process: no Ray."""

import socket

from winnow.serving.claims import Claim
from winnow.serving.standalone import serve_alone
from winnow.steps.config import RunConfig
from winnow.steps.served import served_reference
from winnow.tracking.fetching import RetrieverFetcher, retriever_cache
from winnow.tracking.store import tracking_uri


def serve_without_ray(config: RunConfig) -> None:
    """Returns after Ctrl-C or SIGTERM. One process under uvicorn; swaps and metrics included."""
    cache = retriever_cache(config.output)
    serve_alone(
        config.serve,
        reference=served_reference(config),
        source=RetrieverFetcher(tracking_uri(config.output), cache),
        claim=Claim(cache, f"alone-{socket.gethostname()}-{config.serve.port}"),
        on_ready=lambda: print(f"[serve] ready: {config.serve.url}\n[serve] stop with Ctrl-C", flush=True),
    )
