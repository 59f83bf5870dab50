"""Language model engines behind one protocol."""

from pathlib import Path

from winnow.engines.checkpoint import checkpoint_directory, checkpoint_id
from winnow.engines.config import EngineConfig
from winnow.engines.protocol import Engine

__all__ = ["build_engine", "model_id", "prepare_engine"]


def build_engine(config: EngineConfig, cache: Path) -> Engine:
    """The engine of ``config``, loaded. Converted models are kept under ``cache``."""
    if config.kind == "server":
        from winnow.engines.server_engine import ServerEngine

        return ServerEngine(config)
    if config.kind == "transformers":
        from winnow.engines.transformers_engine import TransformersEngine

        return TransformersEngine(config, cache)
    from winnow.engines.vllm_engine import VllmEngine

    return VllmEngine(config, cache)


def prepare_engine(config: EngineConfig, cache: Path) -> None:
    """Do once, before many processes build the engine, what one has to do: find the model, convert a GGUF file.

    Raises ``ConfigError`` for a server that cannot be used, here rather than in an actor.
    """
    if config.kind == "server":
        from winnow.engines.server_connection import ServerConnection

        ServerConnection(config).close()
    else:
        checkpoint_directory(config, cache)


def model_id(config: EngineConfig) -> str:
    """What the engine's ``model_id`` will be: name and content hash, or a served model's name. Loads nothing."""
    return config.model if config.kind == "server" else checkpoint_id(config)
