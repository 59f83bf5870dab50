"""From configuration to a judge with its engine."""

from collections.abc import Callable
from pathlib import Path

from winnow.engines.config import EngineConfig
from winnow.engines.protocol import Engine
from winnow.errors import ConfigError
from winnow.judging.config import AnnotateConfig
from winnow.judging.identity import judge_id
from winnow.judging.likelihood import LikelihoodJudge
from winnow.judging.listwise import ListwiseJudge
from winnow.judging.protocol import Judge

EngineFactory = Callable[[EngineConfig, Path], Engine]
"""Loads an engine; models that had to be converted are kept in the directory."""


def build_judge(
    config: AnnotateConfig, cache: Path, build_engine: EngineFactory, *, model_id: str | None = None
) -> Judge:
    """The judge of ``config``. Loads the model, so call it where it will be used.

    ``model_id`` is what the evidence will be filed under: raises ``ConfigError`` if another model was loaded here.
    """
    engine = build_engine(config.engine, cache)
    if model_id is not None and engine.model_id != model_id:
        engine.close()
        raise ConfigError(
            f"annotate.engine.model {config.engine.model!r} is {engine.model_id} here, and the run was started "
            f"with {model_id}; put the same files on every machine, or pin a hub model with annotate.engine.revision"
        )
    name = judge_id(config, model_id=engine.model_id)
    if config.judge.kind == "listwise":
        return ListwiseJudge(engine, config.judge, judge_id=name)
    return LikelihoodJudge(engine, config.judge, judge_id=name)
