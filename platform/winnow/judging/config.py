"""Settings of judging: the judge, its engine, what it costs, and what the run may use."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, model_validator

from winnow.config import Config, speed_knob
from winnow.engines.config import EngineConfig


class LikelihoodJudgeConfig(Config):
    """Scores each passage by how much likelier it makes a text. Works with any causal model, however small."""

    kind: Literal["query_gain", "answer_gain", "qa_gain"] = "query_gain"
    """``query_gain``: ``log P(query | passage) - log P(query)``, mean per token; nearer to relevance than utility.
    ``answer_gain``: ``log P(answer | query, passage) - log P(answer | query)``, the signal of REPLUG.
    ``qa_gain``: query gain plus ``answer_weight`` times answer gain: how likely question and answer are together."""

    answers: Literal["human", "pseudo"] = "human"
    """Of answer and qa gain. ``human``: the queries' own answers, the best of them counts; a query without one gets
    the status ``no_answer``. ``pseudo``: one that the model writes from the passages with the highest query gain."""

    answer_weight: float = Field(default=0.5, gt=0)
    """Of answer gain in ``qa_gain``."""

    query_template: str = "query_gain-v1"
    """The prompt of query gain, by its name in ``winnow/judging/prompts``."""

    answer_template: str = "answer_gain-v1"
    """The prompt of answer gain."""

    pseudo_answer_template: str = "listwise-v2"
    """Whose pseudo-answer round is asked, with ``answers: pseudo``."""

    max_answer_tokens: int = Field(default=96, ge=8)
    """Longest pseudo-answer. A longer one is asked for again, shorter; then its query is ``truncated``."""

    max_reasoning_tokens: int = Field(default=0, ge=0)
    """Added to ``max_answer_tokens`` for a model that thinks before it writes the pseudo-answer; at 0 it is told not to
    think."""

    max_passage_words: int = Field(default=300, ge=1)
    """Longer passages are cut here before they are judged, and counted; where words are not spaced, as in Chinese or
    Thai, at twice as many tokens."""

    @property
    def reasoning_tokens(self) -> int | None:
        """Tokens for thinking before a reply; ``None`` if the judge asks for no reply."""
        return self.max_reasoning_tokens if self.uses("pseudo_answer_template") else None

    @property
    def gives(self) -> frozenset[str]:
        """The kinds of evidence in its judgments, by the names in ``records.Judgment``."""
        return frozenset({"utility_score"})

    def uses(self, setting: str) -> bool:
        """Whether ``setting`` has an effect on this kind of judge."""
        asks_for_answers, writes = self.kind != "query_gain", self.kind != "query_gain" and self.answers == "pseudo"
        effects = {
            "answers": asks_for_answers,
            "answer_weight": self.kind == "qa_gain",
            "query_template": self.kind != "answer_gain" or writes,
            "answer_template": asks_for_answers,
            "pseudo_answer_template": writes,
            "max_answer_tokens": writes,
            "max_reasoning_tokens": writes,
        }
        return effects.get(setting, True)

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self) -> Self:
        idle = sorted(name for name in self.model_fields_set if not self.uses(name))
        if idle:
            raise ValueError(f"{', '.join(idle)} has no effect with kind: {self.kind}; remove it")
        return self


class ListwiseJudgeConfig(Config):
    """Shows the model all candidates at once: relevance selection, pseudo-answer, utility (arXiv 2504.05220)."""

    kind: Literal["listwise"]
    """Needs a model that follows instructions: 7B parameters or more."""

    verdict: Literal["selection", "ranking"] = "selection"
    """The last round. ``selection`` marks passages useful or not, ``ranking`` orders them; labels take its best."""

    layout: Literal["conversation", "separate"] = "conversation"
    """``conversation``: the rounds are turns of one chat, so passages are prefilled once. ``separate``: each round
    has its own prompt, as published."""

    template: str = "listwise-v2"
    """The prompts, by their name in ``winnow/judging/prompts``."""

    max_passage_words: int = Field(default=300, ge=1)
    """Longer passages are cut here (at twice as many tokens where words are not spaced, as in Chinese or Thai), and
    counted; also those that alone would not fit the model's context."""

    max_output_tokens: int = Field(default=256, ge=8)
    """Longest reply of a round. A longer one is asked for again, shorter; then its query is ``truncated``."""

    max_reasoning_tokens: int = Field(default=0, ge=0)
    """Added to ``max_output_tokens`` for models that think before they answer; at 0 they are told not to."""

    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy. Above it, replies are drawn with ``seed``."""

    seed: int = Field(default=0, ge=0)
    """Seed of every draw; of no effect at temperature 0."""

    structured: bool = True
    """Let the engine allow nothing but a well-formed reply, after the reasoning if there is one, where it can. The
    parser trusts nothing either way."""

    @property
    def reasoning_tokens(self) -> int:
        """Tokens for thinking before a reply."""
        return self.max_reasoning_tokens

    @property
    def gives(self) -> frozenset[str]:
        """The kinds of evidence in its judgments, by the names in ``records.Judgment``."""
        return frozenset({"is_relevant", "utility_rank" if self.verdict == "ranking" else "is_useful"})


JudgeConfig = Annotated[LikelihoodJudgeConfig | ListwiseJudgeConfig, Discriminator("kind")]


class PriceConfig(Config):
    """What judging costs. Without a price the ledger has tokens and seconds only."""

    currency: str = speed_knob("USD")
    """Shown beside amounts."""

    per_gpu_hour: float | None = speed_knob(None, ge=0)
    """Of one GPU; for an engine without a GPU, of its machine."""

    per_million_prompt_tokens: float | None = speed_knob(None, ge=0)
    """Of a served model."""

    per_million_cached_tokens: float | None = speed_knob(None, ge=0)
    """Of prompt tokens that were found in the prefix cache; by default as other prompt tokens."""

    per_million_output_tokens: float | None = speed_knob(None, ge=0)
    """Of a served model."""

    expected_tokens_per_s: float | None = speed_knob(None, gt=0)
    """Of one engine, for ``--dry-run`` as long as this judge has judged nothing; afterwards its own speed is known."""


class AnnotateConfig(Config):
    """Who judges the candidate pools."""

    engine: EngineConfig
    """The language model. Without a ``kind`` it is ``transformers`` for likelihoods on a CPU, where it was measured to
    be the faster, and ``vllm`` for everything else."""

    judge: JudgeConfig = LikelihoodJudgeConfig()
    """What it is asked."""

    actors: tuple[int, int] = speed_knob((1, 1))
    """Fewest and most engines at work."""

    queries_per_batch: int = speed_knob(8, ge=1)
    """Queries that are stored together."""

    batches_in_flight: int = speed_knob(4, ge=1)
    """Batches that an engine works on at a time. What was in flight is judged again after a kill; fewer leave the
    engine's last steps before a batch returns less than full."""

    max_failed_share: float = speed_knob(0.05, ge=0, le=1)
    """The step stops with exit code 4 when a larger share of the queries failed. What was judged is kept."""

    retry_failed: bool = speed_knob(False)
    """Judge again what would fail the same way again. Engine errors are retried on every run without it."""

    price: PriceConfig = PriceConfig()
    """For the ledger's cost."""

    @model_validator(mode="before")
    @classmethod
    def _engine_follows_the_judge(cls, settings: Any) -> Any:
        engine = settings.get("engine") if isinstance(settings, dict) else None
        if not isinstance(engine, dict) or "kind" in engine:
            return settings
        judge = settings.get("judge") or {}
        writes = isinstance(judge, dict) and (judge.get("kind") == "listwise" or judge.get("answers") == "pseudo")
        kind = "vllm" if writes or engine.get("gpus") else "transformers"
        return {**settings, "engine": {"kind": kind, **engine}}

    @model_validator(mode="after")
    def _actors_are_a_range(self) -> Self:
        least, most = self.actors
        if not 1 <= least <= most:
            raise ValueError(f"annotate.actors needs 1 <= fewest <= most, got {list(self.actors)}")
        return self
