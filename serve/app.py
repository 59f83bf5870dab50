"""A retriever version as a Ray Serve application, for a cluster that runs already.

serve deploy serve/config.yaml
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.serve import Application

from winnow.api.config import ApiConfig
from winnow.cluster.serving import retriever_application
from winnow.config import build_config
from winnow.errors import ConfigError


def build(args: Mapping[str, Any]) -> Application:
    """The application for ``args``: ``retriever``, a directory all nodes can read, and settings of ``ApiConfig``."""
    settings = dict(args)
    if "retriever" not in settings:
        raise ConfigError("args.retriever is missing; expected the directory of a retriever version")
    directory = Path(str(settings.pop("retriever")))
    return retriever_application(directory, build_config(ApiConfig, settings))
