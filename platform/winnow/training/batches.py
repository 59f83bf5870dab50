"""Which queries and passages a step trains on, and how workers share them.

The global batch is drawn first, from (seed, epoch, query id) alone, and split among the workers after
that. So every worker knows the whole batch without asking, all take the same number of steps whatever
falls to them, and any step can be rebuilt without the ones before it.

Legend: Q queries of this worker, P distinct passages of the global batch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from winnow.labels.sampling import Group, Sampler, SamplingConfig
from winnow.losses.module import ScoreLabels
from winnow.records import TrainingExample
from winnow.seeding import derive_seed


@dataclass(frozen=True)
class GlobalBatch:
    """The groups of one step. A passage that several queries name is there, and is encoded, once."""

    epoch: int
    groups: tuple[Group, ...]

    @property
    def passage_ids(self) -> list[str]:
        """The distinct passages, in the order in which they first occur."""
        own = (passage for group in self.groups for passage in (*group.positives, *group.negatives))
        return list(dict.fromkeys(passage.passage_id for passage in own))


class Schedule:
    """All global batches of a run, by step."""

    def __init__(
        self,
        examples: Sequence[TrainingExample],
        sampling: SamplingConfig,
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        accumulate_batches: int = 1,
    ) -> None:
        self._examples = examples
        self._sampler = Sampler(examples, sampling, seed=seed)
        self._batch_size = batch_size
        self._step_size = batch_size * accumulate_batches
        self._seed = seed
        self.steps_per_epoch = math.ceil(len(examples) / self._step_size)
        self.num_steps = self.steps_per_epoch * epochs
        self._order: tuple[int, list[int]] = (-1, [])

    def batches(self, step: int) -> list[GlobalBatch]:
        """The batches of ``step``, counted from 0: one, or as many as are accumulated. The last of an epoch may be
        smaller."""
        epoch, position = divmod(step, self.steps_per_epoch)
        rows = self._epoch_order(epoch)[position * self._step_size :][: self._step_size]
        groups = tuple(self._sampler.group(self._examples[row], epoch) for row in rows)
        starts = range(0, len(groups), self._batch_size)
        return [GlobalBatch(epoch, groups[start : start + self._batch_size]) for start in starts]

    def _epoch_order(self, epoch: int) -> list[int]:
        if self._order[0] != epoch:
            keys = [derive_seed(self._seed, "order", epoch, example.query_id) for example in self._examples]
            self._order = epoch, sorted(range(len(keys)), key=keys.__getitem__)
        return self._order[1]


def split_evenly(lengths: Sequence[int], num_parts: int) -> list[list[int]]:
    """Positions dealt to ``num_parts`` so that each gets texts of all lengths and about as many tokens.

    >>> split_evenly([5, 9, 1, 7], 2)
    [[1, 2], [3, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    for turn, position in enumerate(order):
        # There and back again, so that no part always gets the longer of two neighbours.
        lap, seat = divmod(turn, num_parts)
        parts[seat if lap % 2 == 0 else num_parts - 1 - seat].append(position)
    return parts


def mark_pairs(groups: Sequence[Group], passage_ids: Sequence[str], *, with_utilities: bool) -> ScoreLabels:
    """What each query of ``groups`` may make of each passage of the batch.

    A passage counts once per query, however many queries brought it. What the query withholds, such as a positive
    that was not drawn in this epoch, leaves the candidates, even if another query brings it: it is never a negative.
    """
    column_of = {passage_id: column for column, passage_id in enumerate(passage_ids)}
    shape = len(groups), len(passage_ids)
    is_positive_QP = torch.zeros(shape, dtype=torch.bool)
    is_visible_QP = torch.ones(shape, dtype=torch.bool)
    for row, group in enumerate(groups):
        is_positive_QP[row, [column_of[passage.passage_id] for passage in group.positives]] = True
        is_visible_QP[row, [column_of[passage_id] for passage_id in group.withheld if passage_id in column_of]] = False
    utility_QP = _own_values(groups, column_of, "utility_score", -torch.inf) if with_utilities else None
    is_weighted = any(passage.weight is not None for group in groups for passage in group.positives)
    weights_QP = _own_values(groups, column_of, "weight", 1.0) if is_weighted else None
    return ScoreLabels(is_positive_QP, is_visible_QP, utility_QP, weights_QP)


def _own_values(groups: Sequence[Group], column_of: Mapping[str, int], field: str, otherwise: float) -> Tensor:
    values_QP = torch.full((len(groups), len(column_of)), otherwise)
    for row, group in enumerate(groups):
        for passage in (*group.positives, *group.negatives):
            value = getattr(passage, field)
            values_QP[row, column_of[passage.passage_id]] = otherwise if value is None else value
    return values_QP
