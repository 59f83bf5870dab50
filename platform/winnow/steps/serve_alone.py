"""The retriever version behind an HTTP endpoint of this process, without Ray. Imports no Ray, which takes seconds."""

from winnow.serving.standalone import serve_alone
from winnow.steps.config import RunConfig
from winnow.tracking.fetching import RetrieverFetcher, retriever_cache
from winnow.tracking.store import tracking_uri


def serve_without_ray(config: RunConfig) -> None:
    """Returns after Ctrl-C or SIGTERM. One process under uvicorn; swaps and metrics included."""
    serve_alone(
        config.serve,
        reference=served_reference(config),
        source=RetrieverFetcher(tracking_uri(config.output), retriever_cache(config.output)),
        on_ready=lambda: print(f"[serve] ready: {config.serve.url}\n[serve] stop with Ctrl-C", flush=True),
    )


def served_reference(config: RunConfig) -> str:
    """What is to be served: what is configured, or else the version that ``index`` built. Raises ``DataError``."""
    if config.serve.retriever is not None:
        return config.serve.retriever
    # The steps before it bring Ray along.
    from winnow.steps import index
    from winnow.steps.workspace import find

    return str(find(index.plan(config)).directory.resolve())
