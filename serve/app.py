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

_SCALING = ("num_replicas", "target_ongoing_requests")


def build(args: Mapping[str, Any]) -> Application:
    """The application for ``args``: settings of ``ServeConfig``, ``output``, a directory all nodes can read, and
    ``endpoint``, a name of its own among the endpoints that share ``output``."""
    settings = dict(args)
    output, endpoint = Path(str(settings.pop("output", "runs"))), str(settings.pop("endpoint", "winnow"))
    if scaling := [name for name in _SCALING if name in settings]:
        raise ConfigError(
            f"args.{scaling[0]}: Serve replaces every replica when `args` change, so the number of replicas stands "
            f"under `deployments`: [{{name: retriever, num_replicas: 2}}], or with an `autoscaling_config`"
        )
    config = build_config(ServeConfig, settings)
    if config.retriever is None:
        raise ConfigError("args.retriever is missing; expected a retriever version's directory, or model@alias")
    return retriever_application(plan_serving(config.retriever, config, output=output, endpoint=endpoint))
