"""A retriever version as a Ray Serve application, for a cluster that runs already.

serve deploy serve/config.yaml
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.serve import Application

from winnow.api.config import ServeConfig
from winnow.cluster.serving import plan_serving, retriever_application
from winnow.config import build_config
from winnow.errors import ConfigError


def build(args: Mapping[str, Any]) -> Application:
    """The application for ``args``: settings of ``ServeConfig``, and ``output``, a directory all nodes can read."""
    settings = dict(args)
    output = Path(str(settings.pop("output", "runs")))
    config = build_config(ServeConfig, settings)
    if config.retriever is None:
        raise ConfigError("args.retriever is missing; expected a retriever version's directory, or model@alias")
    return retriever_application(plan_serving(config.retriever, config, output=output))
