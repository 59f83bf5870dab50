"""Which of a query's labelled passages are trained on in an epoch: how many, and whose labels count.

Every draw depends on (seed, epoch, query id) alone: not on the order of the data, the batch or the
worker, so a run can stop and go on anywhere, and any number of workers sees the same groups.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from winnow.config import Config
from winnow.labels.opinions import settle
from winnow.records import LabelledPassage, LabelSource, TrainingExample
from winnow.seeding import derive_seed

Policy = Literal["random_one", "first", "average", "all"]

_BY_LLM: frozenset[LabelSource] = frozenset({"llm", "both"})
_BY_PEOPLE: frozenset[LabelSource] = frozenset({"human", "both"})
_SEEDS = 2**63
"""``derive_seed`` gives a number below this."""


class SamplingConfig(Config):
    """How many positives and hard negatives of a query make its group, and whose positives they are."""

    policy: Policy = "all"
    """``random_one`` (Pos-one): one positive, drawn anew each epoch. ``first``: the first listed one, the judge's
    best. ``average`` (Pos-avg): as many as queries have on average, rounded. ``all`` (Pos-all): every positive.
    Where a query has more than fit, they are drawn anew each epoch."""

    group_size: int = Field(8, ge=2)
    """Most passages of one query, positives and hard negatives together. One place is always a negative's."""

    max_positives: int = Field(4, ge=1)
    """Most positives of one query. ``random_one`` and ``first`` take one whatever it is."""

    labels: Literal["llm", "human", "union"] = "llm"
    """Whose positives are trained on. The others are not drawn, and are no negatives either."""

    human_share: float = Field(1.0, ge=0, le=1)
    """Share of the queries whose human labels are known, drawn by the seed; a larger share keeps the queries of a
    smaller one. Where they are known they go before the judge's: a passage that people reject is a hard negative, and
    none that they find relevant is one. At 0 nothing that people said has any effect."""

    human_positives: Literal["random", "exclude", "include"] = "random"
    """Positives that people named, too. ``random``: drawn like any other. ``exclude``: never drawn. ``include``:
    always drawn as far as there is room, also if the judge missed them (not with ``labels: human``)."""

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self) -> Self:
        if self.labels == "human" and self.human_share == 0:
            raise ValueError("human_share=0 leaves no positive with labels: human; raise it, or take labels: llm")
        if self.human_positives != "random" and self.human_share == 0:
            raise ValueError(f"human_positives={self.human_positives} has no effect with human_share=0; remove it")
        if self.labels == "human" and self.human_positives != "random":
            raise ValueError(f"human_positives={self.human_positives} makes no sense with labels: human; remove it")
        if self.labels == "union" and self.human_positives == "exclude":
            raise ValueError("labels: union adds what human_positives=exclude never draws; take labels: llm")
        return self


@dataclass(frozen=True, slots=True)
class Group:
    """One query's own passages in one epoch. What is ``withheld`` is never its negative: positives that were not drawn,
    and passages of which nobody who is asked says what they are."""

    query_id: str
    positives: tuple[LabelledPassage, ...]
    negatives: tuple[LabelledPassage, ...]
    withheld: frozenset[str]


class _Eligible(NamedTuple):
    certain: tuple[LabelledPassage, ...]
    """Drawn before the others."""
    others: tuple[LabelledPassage, ...]


class Sampler:
    """Draws groups. The same for equal examples in any order; only ``average`` looks at more than one query."""

    def __init__(self, examples: Sequence[TrainingExample], config: SamplingConfig, *, seed: int) -> None:
        self._config = config
        self._seed = seed
        self.most_positives = _most_positives(examples, config, seed=seed)
        """Positives in a group of a query that has as many."""

    def group(self, example: TrainingExample, epoch: int) -> Group:
        """The group of ``example`` in ``epoch``, in the example's order. Fewer negatives than places are all taken.

        It has no positive where none is eligible.
        """
        draw = random.Random(derive_seed(self._seed, "group", epoch, example.query_id))
        example = as_known(example, self._config, seed=self._seed)
        certain, others = _eligible(example, self._config)
        drawn = _draw(draw, certain, self.most_positives, policy=self._config.policy)
        drawn += _draw(draw, others, self.most_positives - len(drawn), policy=self._config.policy)
        negatives = _draw(draw, example.negatives, self._config.group_size - len(drawn), policy="all")
        chosen = {passage.passage_id for passage in drawn}
        positives = tuple(passage for passage in example.positives if passage.passage_id in chosen)
        withheld = frozenset(passage.passage_id for passage in (*example.positives, *example.withheld)) - chosen
        return Group(example.query_id, positives, negatives, withheld)


def as_known(example: TrainingExample, config: SamplingConfig, *, seed: int) -> TrainingExample:
    """``example`` as a run with ``config`` sees it: one opinion per passage, and people's only where they are known."""
    # Compared as a whole number: a quotient so near to 1 would be rounded to it.
    is_known = derive_seed(seed, "human_share", example.query_id) < config.human_share * _SEEDS
    return settle(example, knows_people=is_known)


def eligible_positives(example: TrainingExample, config: SamplingConfig, *, seed: int) -> tuple[LabelledPassage, ...]:
    """The positives of ``example`` that can be drawn in some epoch; those that are drawn before others come first."""
    certain, others = _eligible(as_known(example, config, seed=seed), config)
    return certain + others


def _eligible(known: TrainingExample, config: SamplingConfig) -> _Eligible:
    certain, others = [], []
    for passage in known.positives:
        by_llm, by_people = passage.source in _BY_LLM, passage.source in _BY_PEOPLE
        if by_people and config.human_positives != "random":
            if config.human_positives == "include":
                certain.append(passage)
        elif {"llm": by_llm, "human": by_people, "union": by_llm or by_people}[config.labels]:
            others.append(passage)
    return _Eligible(tuple(certain), tuple(others))


def _most_positives(examples: Sequence[TrainingExample], config: SamplingConfig, *, seed: int) -> int:
    room = min(config.max_positives, config.group_size - 1)
    if config.policy == "all":
        return room
    if config.policy != "average":
        return 1
    numbers = [len(eligible_positives(example, config, seed=seed)) for example in examples]
    total, num_queries = sum(numbers), sum(number > 0 for number in numbers)
    # Rounded half up, in whole numbers so that no order of addition matters.
    return min(room, max(1, (2 * total + num_queries) // (2 * num_queries))) if num_queries else 1


def _draw(
    draw: random.Random, passages: Sequence[LabelledPassage], count: int, *, policy: Policy
) -> tuple[LabelledPassage, ...]:
    if policy == "first" or len(passages) <= count:
        return tuple(passages[:count])
    return tuple(passages[position] for position in sorted(draw.sample(range(len(passages)), count)))
