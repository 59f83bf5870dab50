"""Settings of judging: the judge, its engine, and what the run may use."""

from typing import Literal, Self

from pydantic import Field, model_validator

from winnow.config import Config, speed_knob
from winnow.engines.config import EngineConfig


class LikelihoodJudgeConfig(Config):
    """Scores each passage by how much likelier it makes a text. Works with any causal model, however small."""

    kind: Literal["query_gain"] = "query_gain"
    """``query_gain``: ``log P(query | passage) - log P(query)``, mean per token. Nearer to relevance than utility."""

    template: str = "query_gain-v1"
    """The prompt, by its name in ``winnow/judging/prompts``."""

    max_passage_words: int = Field(default=300, ge=1)
    """Longer passages are cut here before they are judged, and counted."""


class AnnotateConfig(Config):
    """Who judges the candidate pools."""

    engine: EngineConfig
    """The language model."""

    judge: LikelihoodJudgeConfig = LikelihoodJudgeConfig()
    """What it is asked."""

    actors: tuple[int, int] = speed_knob((1, 1))
    """Fewest and most engines at work."""

    queries_per_batch: int = speed_knob(8, ge=1)
    """Queries an engine gets at once. This many per engine are judged again after a kill."""

    max_failed_share: float = speed_knob(0.05, ge=0, le=1)
    """The step stops with exit code 4 when a larger share of the queries failed. What was judged is kept."""

    retry_failed: bool = speed_knob(False)
    """Judge again what would fail the same way again. Engine errors are retried on every run without it."""

    @model_validator(mode="after")
    def _actors_are_a_range(self) -> Self:
        least, most = self.actors
        if not 1 <= least <= most:
            raise ValueError(f"annotate.actors needs 1 <= fewest <= most, got {list(self.actors)}")
        return self
