"""Settings of labelling. Changing them never asks the language model again."""

from typing import Literal, Self

from pydantic import Field, model_validator

from winnow.config import Config

Evidence = Literal["useful", "relevant", "rank", "score"]
"""What positives are taken from: a verdict (the first three) or the judge's score."""

_ONLY_FOR: dict[str, set[Evidence]] = {
    "top_percent": {"rank"},
    "max_drop": {"score"},
    "min_score": {"score"},
    "calibration_queries": {"score"},
    "negative_margin": {"score"},
    "first_negative_rank": {"score"},
    "last_negative_rank": {"score"},
    "leave_out_relevant": {"useful", "rank", "score"},
}
_POSITIVES_BY_SCORE = 3


class LabelConfig(Config):
    """From the judge's evidence on one query's pool to positives and hard negatives.

    Margins are within a query: scores of different queries cannot be compared (zero is no threshold for
    query gain). What people said is stored beside the judge's opinion; ``train.sampling`` decides whose counts.
    """

    positives: Literal["auto", "useful", "relevant", "rank", "score"] = "auto"
    """What makes a positive. ``useful``, ``relevant``: the judge marked it so. ``rank``: the top of its utility
    ranking. ``score``: the best scores. ``auto``: the ranking if there is one, else the marks of use, else scores."""

    max_positives: int | None = Field(default=None, ge=1)
    """Most positives of a query, its best first. By default all that a verdict names, and 3 where there are only
    scores, which name none."""

    top_percent: float = Field(default=10.0, gt=0, le=100)
    """``rank`` only: this share of the ranked passages is positive, rounded down, at least one."""

    max_drop: float = Field(default=0.2, ge=0)
    """``score`` only: a positive scores at most this much below the best passage of its query."""

    min_score: float | Literal["calibrated"] | None = None
    """``score`` only: a positive scores at least this, where the judge's scores have a meaning across queries.
    ``calibrated``: the threshold with the best F1 against the human positives in the pools."""

    calibration_queries: int = Field(default=100, ge=1)
    """``min_score: calibrated`` only: most queries to choose the threshold on; drawn among those whose pools hold a
    human positive."""

    negative_margin: float = Field(default=0.3, ge=0)
    """``score`` only: a hard negative scores at least this much below the worst positive, or below ``min_score``
    where nothing reaches it; what lies between is left out."""

    first_negative_rank: int = Field(default=2, ge=2)
    """``score`` only: hard negatives are taken from this rank on, the best-scored passage having rank 1."""

    last_negative_rank: int | None = Field(default=None, ge=2)
    """``score`` only: no hard negatives beyond this rank, where they are too easy to teach much."""

    leave_out_relevant: bool = False
    """No hard negatives among passages that the judge called relevant."""

    max_negatives: int = Field(default=16, ge=0)
    """Most hard negatives of a query, hardest first: the best-scored ones; after a verdict the relevant ones first,
    then by the best rank in a list."""

    def most_positives(self, evidence: Evidence) -> int | None:
        """``max_positives``, or what stands for it with ``evidence``; ``None`` is no limit."""
        if self.max_positives is None and evidence == "score":
            return _POSITIVES_BY_SCORE
        return self.max_positives

    def without_effect(self, evidence: Evidence) -> list[str]:
        """The settings that were given and change nothing with ``evidence``."""
        return sorted(name for name in self.model_fields_set if evidence not in _ONLY_FOR.get(name, {evidence}))

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self) -> Self:
        idle = [] if self.positives == "auto" else self.without_effect(self.positives)
        if idle:
            raise ValueError(f"{', '.join(idle)} has no effect with positives: {self.positives}; remove it")
        if "calibration_queries" in self.model_fields_set and self.min_score != "calibrated":
            raise ValueError("calibration_queries has no effect without min_score: calibrated; remove it")
        return self

    @model_validator(mode="after")
    def _ranks_of_negatives_are_a_window(self) -> Self:
        first, last = self.first_negative_rank, self.last_negative_rank
        if last is not None and last < first:
            raise ValueError(f"last_negative_rank={last} comes before first_negative_rank={first}; raise it")
        return self
