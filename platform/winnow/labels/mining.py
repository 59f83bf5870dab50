"""Hard negatives from the ranking of an encoder: what it takes for useful now, and nobody calls so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from pydantic import Field, model_validator

from winnow.config import Config
from winnow.records import LabelledPassage, TrainingExample

_INFINITY = float("inf")


class MiningConfig(Config):
    """Which passages of a ranking become hard negatives. Known positives, and what is withheld, are
    taken out of it first."""

    first_rank: int = Field(1, ge=1)
    """Rank from which on they are taken. A higher one skips passages that may be useful though nobody said so."""

    last_rank: int = Field(100, ge=1)
    """Rank up to which they are taken."""

    margin: float | None = Field(0.0, ge=0)
    """A negative scores at least this much below the query's best-scored positive, in the encoder's own scores:
    what scores higher is too likely to be useful. ``null``: no such rule."""

    max_negatives: int = Field(16, ge=1)
    """Most hard negatives of a query, hardest first."""

    @model_validator(mode="after")
    def _ranks_are_a_window(self) -> Self:
        if self.last_rank < self.first_rank:
            raise ValueError(f"last_rank={self.last_rank} comes before first_rank={self.first_rank}; raise it")
        return self


@dataclass
class MiningCounts:
    """What became of the rankings."""

    num_mined: int = 0
    num_too_close: int = 0
    """Passages in the window that score too near to a positive, or above it."""
    num_without: int = 0
    """Examples that are left without a hard negative."""


def mine_negatives(
    example: TrainingExample,
    ranked: Sequence[tuple[str, float]],
    positive_scores: Mapping[str, float],
    config: MiningConfig,
    counts: MiningCounts | None = None,
) -> TrainingExample:
    """``example`` with hard negatives from ``ranked`` (passages with scores, best first) in place of its own.

    None of its positives is among them, whoever named it, nor what it withholds. A margin is taken from the best of its
    positives in ``positive_scores``; with none there, no passage is far enough from one. What it had scores for keeps
    them.
    """
    positives = {passage.passage_id for passage in example.positives}
    apart = positives | {passage.passage_id for passage in example.withheld}
    others = [(name, score) for name, score in ranked if name not in apart]
    window = others[config.first_rank - 1 : config.last_rank]
    ceiling = _ceiling([score for name, score in positive_scores.items() if name in positives], config.margin)
    chosen = [name for name, score in window if score <= ceiling]
    if counts is not None:
        counts.num_too_close += len(window) - len(chosen)
        counts.num_mined += len(chosen[: config.max_negatives])
        counts.num_without += not chosen
    utilities = {passage.passage_id: passage.utility_score for passage in example.negatives}
    mined = (LabelledPassage(name, "mined", utility_score=utilities.get(name)) for name in chosen)
    return replace(example, negatives=tuple(mined)[: config.max_negatives])


def _ceiling(positive_scores: Sequence[float], margin: float | None) -> float:
    return _INFINITY if margin is None else max(positive_scores, default=-_INFINITY) - margin
