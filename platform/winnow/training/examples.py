"""The training examples of a run, checked before a step is taken."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow import schema
from winnow.errors import DataError
from winnow.labels.sampling import as_known, eligible_positives
from winnow.records import LabelledPassage, LabelSource, TrainingExample
from winnow.training.config import TrainConfig

_NO_POSITIVE = "no_positive"
_NO_UTILITIES = "fewer_than_two_utilities"
_SOURCES: dict[str, set[LabelSource]] = {
    "positives": {"llm", "human", "both"},
    "negatives": {"llm", "human", "both", "mined"},
    "withheld": {"llm", "human", "both"},
}
_WHO: dict[LabelSource, tuple[LabelSource, ...]] = {
    "llm": ("llm",),
    "human": ("human",),
    "both": ("llm", "human"),
    # An encoder's find replaces what anybody said of it.
    "mined": ("llm", "human"),
}


@dataclass(frozen=True)
class UsableExamples:
    """Examples that can teach something, and how many were left out for which reason."""

    examples: tuple[TrainingExample, ...]
    left_out: dict[str, int]


def read_examples(path: Path) -> list[TrainingExample]:
    """The rows of a ``training_examples`` dataset. Raises ``DataError``."""
    rows = schema.read_dataset(path, schema.TRAINING_EXAMPLES).to_pylist()
    examples = [_example(row) for row in rows]
    repeated = [query_id for query_id, count in Counter(e.query_id for e in examples).items() if count > 1]
    if repeated:
        raise DataError(
            f"{path} has several rows for {len(repeated)} queries, such as {repeated[0]!r}; expected one each"
        )
    for example in examples:
        _check_labels(example, path)
    return examples


def usable_examples(examples: Sequence[TrainingExample], config: TrainConfig, *, seed: int) -> UsableExamples:
    """``examples`` without those that have no row in the loss of any epoch. Raises ``DataError`` if none is left."""
    reasons = [_unusable(example, config, seed) for example in examples]
    left_out = Counter(reason for reason in reasons if reason is not None)
    kept = tuple(example for example, reason in zip(examples, reasons, strict=True) if reason is None)
    if not kept:
        raise DataError(
            f"none of {len(examples)} training examples can be used with {config.loss.objective} on the labels of "
            f"{config.sampling.labels} ({dict(left_out)}); loosen the thresholds in the `label` section, "
            f"or look at the counts of `winnow annotate` and at train.sampling"
        )
    return UsableExamples(kept, dict(left_out))


def _unusable(example: TrainingExample, config: TrainConfig, seed: int) -> str | None:
    positives = eligible_positives(example, config.sampling, seed=seed)
    if not config.loss.learns_from_utility:
        return None if positives else _NO_POSITIVE
    negatives = as_known(example, config.sampling, seed=seed).negatives
    known = [p for p in (*positives, *negatives) if p.utility_score is not None]
    return None if len(known) >= 2 else _NO_UTILITIES


def _check_labels(example: TrainingExample, path: Path) -> None:
    held: Counter[tuple[str, LabelSource]] = Counter()
    for side in _SOURCES:
        for passage in getattr(example, side):
            if passage.source not in _SOURCES[side]:
                raise DataError(
                    f"{path}: query {example.query_id!r} has {passage.source!r} as source in {side}, "
                    f"expected one of {sorted(_SOURCES[side])}: it says whose labels a run may train on"
                )
            held.update((passage.passage_id, who) for who in _WHO[passage.source])
    twice = [(passage_id, who) for (passage_id, who), count in held.items() if count > 1]
    if twice:
        raise DataError(
            f"{path}: query {example.query_id!r} has passage {twice[0][0]!r} more than once by {twice[0][1]!r}; "
            f"the judge and people may differ, but each holds one opinion of a passage"
        )


def _example(row: dict[str, Any]) -> TrainingExample:
    sides = (tuple(LabelledPassage(**p) for p in row[side]) for side in _SOURCES)
    return TrainingExample(row["query_id"], row["query"], *sides, stage=row["stage"])
