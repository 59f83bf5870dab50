"""Language model engines behind one protocol."""

from pathlib import Path
from typing import TYPE_CHECKING

from winnow.engines.checkpoint import checkpoint_directory, checkpoint_id
from winnow.engines.config import EngineConfig, ServerConfig
from winnow.engines.protocol import Engine

if TYPE_CHECKING:
    from winnow.engines.server_engine import ServerEngine

__all__ = ["build_engine", "build_server_engine", "model_id", "prepare_engine"]


def build_engine(config: EngineConfig, cache: Path) -> Engine:
    """The engine of ``config``, loaded. Converted models are kept under ``cache``."""
    if config.kind == "server":
        return build_server_engine(config)
    if config.kind == "transformers":
        from winnow.engines.transformers_engine import TransformersEngine

        return TransformersEngine(config, cache)
    from winnow.engines.vllm_engine import VllmEngine

    return VllmEngine(config, cache)


def build_server_engine(config: ServerConfig) -> "ServerEngine":
    """The engine of a server that answers. Whoever needs none does not wait for the ``openai`` package."""
    from winnow.engines.server_engine import ServerEngine

    return ServerEngine(config)


def prepare_engine(config: EngineConfig, cache: Path, *, max_reasoning_tokens: int | None = None) -> None:
    """Do once, before many processes build the engine, what one has to do: find the model, convert a GGUF file.

    ``max_reasoning_tokens``, unless ``None``: the model will be chatted with, so its chat template is tried.
    Raises ``ConfigError`` for a server or a template that cannot be used, here rather than in an actor.
    """
    if config.kind == "server":
        engine = build_server_engine(config)
        if max_reasoning_tokens is not None:
            engine.check_chat(thinks=max_reasoning_tokens > 0)
        engine.close()
        return
    directory = checkpoint_directory(config, cache)
    if max_reasoning_tokens is not None:
        from winnow.engines.prompts import load_tokenizer

        load_tokenizer(config, directory).check_chat(thinks=max_reasoning_tokens > 0)


def model_id(config: EngineConfig) -> str:
    """What the engine's ``model_id`` will be: name and content hash, or a served model's name. Loads nothing."""
    return config.model if config.kind == "server" else checkpoint_id(config)
