"""Settings of what watches a run while it trains: the alarm, and the measures on dev questions."""

from typing import Self

from pydantic import Field, model_validator

from winnow.config import Config
from winnow.evaluation.config import Measure

_ALWAYS_MEASURED = ("nDCG@10", "RR@10", "R@100")


class AlarmConfig(Config):
    """When training counts as collapsed. A loss that is no number stops a run in any case."""

    enabled: bool = True
    """Stop a run that has collapsed, with a diagnosis and the batch."""

    patience_steps: int = Field(50, ge=1)
    """Steps in a row that a fault has to last."""

    min_score_spread: float = Field(1e-3, ge=0, lt=1)
    """Scores of a query are all alike below this, if they once spread ten times as far: their standard deviation
    as a share of their root mean square."""

    min_rank: float = Field(1.05, ge=0)
    """Embeddings are of rank one below this participation ratio."""


class DevConfig(Config):
    """Measures on questions that are not trained on, at intervals while training."""

    every_epochs: float = Field(1.0, gt=0)
    """Epochs between two evaluations; 0.25 is four per epoch. One always follows the last step."""

    max_queries: int = Field(200, ge=1)
    """Most questions, drawn by the seed of the run."""

    max_passages: int = Field(2000, ge=1)
    """Passages that are searched: all that are useful for one of the questions, filled up with a draw from the
    corpus. Measures are higher than on the whole corpus and good for comparing steps, not systems."""

    measure: Measure = "nDCG@10"
    """What says which step was best. RR@10, nDCG@10 and R@100 are logged beside it."""

    patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations in a row that were no better than the best, and go back to the parameters
    of the best one. By default the run goes to its end and keeps the last ones."""

    min_gain: float = Field(0.0, ge=0)
    """A measure has to rise by more than this to count as better."""

    @model_validator(mode="after")
    def _gain_needs_patience(self) -> Self:
        if self.min_gain > 0 and self.patience is None:
            raise ValueError(f"min_gain={self.min_gain} has no effect without a patience; set one or remove it")
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        """All that is measured, ``measure`` first."""
        return tuple(dict.fromkeys((self.measure, *_ALWAYS_MEASURED)))
