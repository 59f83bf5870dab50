"""Settings of labelling. Changing them never asks the language model again."""

from pydantic import Field

from winnow.config import Config


class LabelConfig(Config):
    """From the scores of one query's pool to positives and hard negatives, by rank and margin.

    Scores of different queries cannot be compared (zero is no threshold for query gain), so all
    margins are within a query.
    """

    max_positives: int = Field(default=3, ge=1)
    """Most positives of a query: its best-scored passages."""

    max_drop: float = Field(default=0.2, ge=0)
    """A positive scores at most this much below the best passage of its query."""

    min_score: float | None = None
    """A positive scores at least this, where the judge's scores have a meaning across queries."""

    negative_margin: float = Field(default=0.3, ge=0)
    """A hard negative scores at least this much below the worst positive; what lies between is left out."""

    first_negative_rank: int = Field(default=2, ge=2)
    """Hard negatives are taken from this rank on, the best passage having rank 1."""

    max_negatives: int = Field(default=16, ge=0)
    """Most hard negatives of a query, hardest first."""
