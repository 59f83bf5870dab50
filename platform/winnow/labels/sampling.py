"""Which of a query's labelled passages are trained on in an epoch.

Every draw depends on (seed, epoch, query id) alone: not on the order of the data, the batch or the
worker, so a run can stop and go on anywhere, and any number of workers sees the same groups.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from winnow.config import Config
from winnow.records import LabelledPassage, TrainingExample
from winnow.seeding import derive_seed

Policy = Literal["random_one", "first", "all"]


class SamplingConfig(Config):
    """How many positives and hard negatives of a query make its group."""

    policy: Policy = "all"
    """``random_one``: one positive, drawn anew each epoch. ``first``: the first listed one.
    ``all``: every positive, or as many as ``max_positives`` and the group allow, drawn anew each epoch."""

    group_size: int = Field(8, ge=2)
    """Most passages of one query, positives and hard negatives together. One place is always a negative's."""

    max_positives: int = Field(4, ge=1)
    """Most positives of one query (``all`` only)."""


@dataclass(frozen=True, slots=True)
class Group:
    """One query's own passages in one epoch. ``withheld`` are positives that were not drawn: never negatives."""

    query_id: str
    positives: tuple[LabelledPassage, ...]
    negatives: tuple[LabelledPassage, ...]
    withheld: frozenset[str]


def sample_group(example: TrainingExample, config: SamplingConfig, *, seed: int, epoch: int) -> Group:
    """The group of ``example`` in ``epoch``, in the example's order. Fewer negatives than places are all taken."""
    draw = random.Random(derive_seed(seed, "group", epoch, example.query_id))
    positives = _draw(draw, example.positives, _num_positives(config), policy=config.policy)
    negatives = _draw(draw, example.negatives, config.group_size - len(positives), policy="all")
    chosen = {passage.passage_id for passage in positives}
    withheld = frozenset(passage.passage_id for passage in example.positives) - chosen
    return Group(example.query_id, positives, negatives, withheld)


def _num_positives(config: SamplingConfig) -> int:
    return min(config.max_positives, config.group_size - 1) if config.policy == "all" else 1


def _draw(
    draw: random.Random, passages: Sequence[LabelledPassage], count: int, *, policy: Policy
) -> tuple[LabelledPassage, ...]:
    if policy == "first" or len(passages) <= count:
        return tuple(passages[:count])
    return tuple(passages[position] for position in sorted(draw.sample(range(len(passages)), count)))
