"""When to measure on dev, which step was best, and when to stop.

All of it is decided by ``Totals``, which checkpoints hold: a run that goes on decides as one that never stopped.
"""

from collections.abc import Mapping

from winnow.training.checkpoint import Totals
from winnow.training.watching import DevConfig


def is_measured(step: int, config: DevConfig, *, steps_per_epoch: int, num_steps: int) -> bool:
    """Whether an evaluation follows step number ``step``, counted from 1.

    >>> steps = range(1, 11)
    >>> [step for step in steps if is_measured(step, DevConfig(every_epochs=0.5), steps_per_epoch=8, num_steps=10)]
    [4, 8, 10]
    """
    interval = max(1, round(config.every_epochs * steps_per_epoch))
    return step % interval == 0 or step == num_steps


def is_best(totals: Totals, step: int, measures: Mapping[str, float], config: DevConfig) -> bool:
    """Whether the evaluation after ``step`` is the best so far; ``totals`` keep it either way.

    A measure that is no number is no better than any.
    """
    value = measures[config.measure]
    totals.dev.append({"step": step, **measures})
    is_better = value == value if totals.best_value is None else value > totals.best_value + config.min_gain
    if is_better:
        totals.best_value, totals.best_step, totals.num_bad_evaluations = value, step, 0
    else:
        totals.num_bad_evaluations += 1
    return is_better


def should_stop(totals: Totals, config: DevConfig | None) -> bool:
    """Whether the measures have not risen for as many evaluations as the patience says."""
    return config is not None and config.patience is not None and totals.num_bad_evaluations >= config.patience
