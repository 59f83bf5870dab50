"""Settings of the audit of a judge."""

from pydantic import Field

from winnow.config import Config, InputPath


class AuditConfig(Config):
    """What a judge's labels are held against, and how much of it can be browsed."""

    against: InputPath | None = None
    """The directory of another judge's ``annotate`` output, to see how far the two agree."""

    reorder_queries: int = Field(default=0, ge=0)
    """So many queries are judged again with their passages in another order; the flips show position bias."""

    bootstrap_samples: int = Field(default=1000, ge=100)
    """Resamples of the queries, from which the 95 % intervals are read."""

    page_queries: int = Field(default=300, ge=1)
    """Most queries on the page: failures and disagreements first, then a seeded sample."""
