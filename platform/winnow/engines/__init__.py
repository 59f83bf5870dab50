"""Language model engines behind one protocol."""

from pathlib import Path

from winnow.engines.config import EngineConfig
from winnow.engines.protocol import Engine

__all__ = ["build_engine"]


def build_engine(config: EngineConfig, cache: Path) -> Engine:
    """The engine of ``config``, loaded. Converted models are kept under ``cache``."""
    from winnow.engines.vllm_engine import VllmEngine

    return VllmEngine(config, cache)
