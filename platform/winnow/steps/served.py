"""What ``serve`` answers from. Imports nothing that is slow to import, unless a run has to be looked up."""

from winnow.steps.config import RunConfig


def served_reference(config: RunConfig) -> str:
    """What is configured, or else the version that ``index`` built. Raises ``DataError``."""
    if config.serve.retriever is not None:
        return config.serve.retriever
    # The steps bring torch and Ray along.
    from winnow.steps import index
    from winnow.steps.workspace import find

    return str(find(index.plan(config)).directory.resolve())
