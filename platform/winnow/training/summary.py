"""What came of a training run."""

from dataclasses import dataclass, field
from typing import Any

from winnow.training.batches import Schedule
from winnow.training.checkpoint import Totals
from winnow.training.config import TrainConfig


@dataclass(frozen=True)
class TrainingSummary:
    """What came of a run. Holds no times, so equal runs have equal summaries."""

    objective: str
    num_steps: int
    """Of the schedule; a run that was stopped early took fewer."""
    num_steps_taken: int
    num_queries: int
    """Rows of all steps, every epoch counted."""
    num_skipped: int
    """Of those, rows that had no positive (or no two utilities) in their group."""
    num_tokens: int
    padding_share: float
    epoch_losses: list[float]
    """Mean loss of each epoch's valid queries."""
    temperature: float
    """At the end; another than configured where it was learned."""
    dev: list[dict[str, Any]] = field(default_factory=list)
    """Measures on dev questions, by step."""
    best_step: int | None = None
    """Step whose parameters were kept; ``None`` where the last ones were."""


def summarise(config: TrainConfig, schedule: Schedule, totals: Totals, *, temperature: float) -> TrainingSummary:
    """The summary of a run that has counted ``totals``."""
    stops_early = config.dev is not None and config.dev.patience is not None
    losses = zip(totals.epoch_losses, totals.epoch_valid, strict=True)
    return TrainingSummary(
        objective=config.objective_name,
        num_steps=schedule.num_steps,
        num_steps_taken=totals.num_steps,
        num_queries=totals.num_queries,
        num_skipped=totals.num_skipped,
        num_tokens=totals.num_tokens,
        padding_share=totals.num_padding / max(totals.num_tokens + totals.num_padding, 1),
        epoch_losses=[loss / max(count, 1) for loss, count in losses],
        temperature=temperature,
        dev=totals.dev,
        best_step=(totals.best_step or None) if stops_early else None,
    )
